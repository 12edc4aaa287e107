"""The decoders, each beside its paper."""

from .page import CLASSIC, MODERN, Fields, Page, Size, repeat, root_of_width


def _shape(width: int, inner: int | None, layers: int, heads: int, groups: int | None = None, **fields) -> Fields:
    """Hidden size, inner width of the feed-forward, depth, query heads, key-value heads."""
    shape = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads)
    return shape | dict(intermediate_size=inner, num_key_value_heads=groups) | fields


GPT = Page(
    family="decoder",
    year=2018,
    paper="Improving Language Understanding by Generative Pre-Training",
    url="https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf",
    particular="the decoder alone: post-norm, learned positions, GELU",
    reference="OpenAIGPTLMHeadModel",
    model_type="openai-gpt",
    source="https://huggingface.co/openai-community/openai-gpt",
    counted="language model",
    fields=CLASSIC
    | dict(
        vocab_size=40_478,
        position_encoding="learned",
        max_position_embeddings=512,
        norm_placement="post",
        hidden_act="gelu_new",
        hidden_dropout=0.1,
        attention_dropout=0.1,
        embedding_dropout=0.1,
        pad_token_id=None,
    ),
    sizes={"gpt": Size(116_534_784, "117M", _shape(768, None, 12, 12))},
)

GPT2 = Page(
    family="decoder",
    year=2019,
    paper="Language Models are Unsupervised Multitask Learners",
    url="https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
    particular="GPT with the norms moved before the sublayers, one more at the end, and twice the context",
    reference="GPT2LMHeadModel, GPT2ForSequenceClassification",
    model_type="gpt2",
    source="https://github.com/openai/gpt-2 (the names of the released models)",
    counted="language model",
    fields=GPT.fields
    | dict(
        vocab_size=50_257,
        max_position_embeddings=1024,
        norm_placement="pre",
        bos_token_id=50_256,
        eos_token_id=50_256,
    ),
    sizes={
        "gpt2": Size(124_439_808, "124M", _shape(768, None, 12, 12)),
        "gpt2-medium": Size(354_823_168, "355M", _shape(1024, None, 24, 16)),
        "gpt2-large": Size(774_030_080, "774M", _shape(1280, None, 36, 20)),
        "gpt2-xl": Size(1_557_611_200, "1558M", _shape(1600, None, 48, 25)),
    },
)

# No code of GPT-3 was published. The paper says which layers alternate, not how wide the band is: 256 is GPT-Neo's.
GPT3 = Page(
    family="decoder",
    year=2020,
    paper="Language Models are Few-Shot Learners",
    url="https://arxiv.org/abs/2005.14165",
    particular="GPT-2 with every other layer locally banded; no official code exists",
    reference="GPTNeoForCausalLM (which has no biases on q, k, v and does not scale the scores)",
    model_type="gpt_neo",
    source="https://arxiv.org/abs/2005.14165 (table 2.1)",
    counted="language model",
    fields=GPT2.fields
    | dict(
        max_position_embeddings=2048,
        layer_types=repeat("full_attention", "sliding_attention"),
        sliding_window=256,
    ),
    sizes={
        "gpt3-125m": Size(125_226_240, "125M", _shape(768, None, 12, 12)),
        "gpt3-350m": Size(355_871_744, "350M", _shape(1024, None, 24, 16), "355.9M; the paper rounds down"),
        "gpt3-760m": Size(760_300_032, "760M", _shape(1536, None, 24, 16)),
        # The table's 24 heads of 128 do not make its width of 2,048 nor its 1.3B parameters; 16 heads do.
        "gpt3-1.3b": Size(1_315_723_264, "1.3B", _shape(2048, None, 24, 16)),
        "gpt3-2.7b": Size(2_651_553_280, "2.7B", _shape(2560, None, 32, 32)),
        "gpt3-6.7b": Size(6_658_404_352, "6.7B", _shape(4096, None, 32, 32)),
        # Nor are its 40 heads of 128 the width of 5,140 that it gives here.
        "gpt3-13b": Size(12_853_386_240, "13.0B", _shape(5120, None, 40, 40), "12.85B at a width of 40 x 128"),
        "gpt3-175b": Size(174_604_259_328, "175B", _shape(12_288, None, 96, 96)),
    },
)

BLOOM = Page(
    family="decoder",
    year=2022,
    paper="BLOOM: A 176B-Parameter Open-Access Multilingual Language Model",
    url="https://arxiv.org/abs/2211.05100",
    particular="ALiBi instead of positions, a norm after the embeddings",
    reference="BloomForCausalLM",
    model_type="bloom",
    source="https://huggingface.co/bigscience/bloom and its smaller siblings (model cards)",
    counted="language model",
    fields=CLASSIC
    | dict(
        vocab_size=250_880,
        position_encoding="alibi",
        embedding_norm=True,
        hidden_act="gelu_pytorch_tanh",
        pad_token_id=3,
        bos_token_id=1,
        eos_token_id=2,
    ),
    sizes={
        "bloom-560m": Size(559_214_592, "559,214,592", _shape(1024, None, 24, 16)),
        "bloom-1b1": Size(1_065_314_304, "1,065,314,304", _shape(1536, None, 24, 16)),
        "bloom-1b7": Size(1_722_408_960, "1,722,408,960", _shape(2048, None, 24, 16)),
        "bloom-3b": Size(3_002_557_440, "3,002,557,440", _shape(2560, None, 30, 32)),
        "bloom-7b1": Size(7_069_016_064, "7,069,016,064", _shape(4096, None, 30, 32)),
        "bloom-176b": Size(176_247_271_424, "176,247,271,424", _shape(14_336, None, 70, 112)),
    },
)

LLAMA = Page(
    family="decoder",
    year=2023,
    paper="LLaMA: Open and Efficient Foundation Language Models",
    url="https://arxiv.org/abs/2302.13971",
    particular="RoPE, RMSNorm, SwiGLU, no biases",
    reference="LlamaForCausalLM",
    model_type="llama",
    source="https://arxiv.org/abs/2302.13971 (table 2)",
    counted="language model",
    fields=MODERN
    | dict(
        vocab_size=32_000,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=1,
        eos_token_id=2,
    ),
    sizes={
        "llama-7b": Size(6_738_415_616, "6.7B", _shape(4096, 11_008, 32, 32)),
        "llama-13b": Size(13_015_864_320, "13.0B", _shape(5120, 13_824, 40, 40)),
        "llama-33b": Size(32_528_943_616, "32.5B", _shape(6656, 17_920, 60, 52)),
        "llama-65b": Size(65_285_660_672, "65.2B", _shape(8192, 22_016, 80, 64), "65.29B; the paper rounds down"),
    },
)


def _stretched(factor: float) -> Fields:
    """Llama 3.1's RoPE: low frequencies divided by `factor`, high ones kept, 128k positions."""
    scaling = dict(rope_type="llama3", rope_theta=500_000.0, factor=factor, low_freq_factor=1.0, high_freq_factor=4.0)
    scaling["original_max_position_embeddings"] = 8192
    return dict(rope_parameters=scaling, max_position_embeddings=131_072)


LLAMA3 = Page(
    family="decoder",
    year=2024,
    paper="The Llama 3 Herd of Models",
    url="https://arxiv.org/abs/2407.21783",
    particular="Llama with grouped key-value heads, four times the vocabulary and a longer RoPE, stretched from 3.1 on",
    reference="LlamaForCausalLM",
    model_type="llama",
    source="https://github.com/meta-llama/llama-models (model cards)",
    counted="language model",
    fields=LLAMA.fields
    | dict(
        vocab_size=128_256,
        max_position_embeddings=8192,
        rope_parameters=dict(rope_type="default", rope_theta=500_000.0),
        norm_eps=1e-5,
        bos_token_id=128_000,
        eos_token_id=128_001,
    ),
    sizes={
        "llama3-8b": Size(8_030_261_248, "8B", _shape(4096, 14_336, 32, 32, 8)),
        "llama3-70b": Size(70_553_706_496, "70B", _shape(8192, 28_672, 80, 64, 8)),
        "llama3.1-8b": Size(8_030_261_248, "8B", _shape(4096, 14_336, 32, 32, 8) | _stretched(8.0)),
        "llama3.1-405b": Size(
            405_853_388_800,
            "405B",
            _shape(16_384, 53_248, 126, 128, 8) | _stretched(8.0),
            "405.9B; the name rounds down",
        ),
        "llama3.2-1b": Size(
            1_235_814_400,
            "1.23B",
            _shape(2048, 8192, 16, 32, 8, tie_word_embeddings=True) | _stretched(32.0),
            "1.236B; the card rounds down",
        ),
        "llama3.2-3b": Size(
            3_212_749_824, "3.21B", _shape(3072, 8192, 28, 24, 8, tie_word_embeddings=True) | _stretched(32.0)
        ),
    },
)

MISTRAL = Page(
    family="decoder",
    year=2023,
    paper="Mistral 7B",
    url="https://arxiv.org/abs/2310.06825",
    particular="Llama with grouped key-value heads and a sliding window in every layer",
    reference="MistralForCausalLM",
    model_type="mistral",
    source="https://arxiv.org/abs/2310.06825",
    counted="language model",
    fields=LLAMA.fields | dict(max_position_embeddings=32_768, sliding_window=4096, norm_eps=1e-5),
    sizes={"mistral-7b": Size(7_241_732_096, "7B", _shape(4096, 14_336, 32, 32, 8))},
)

GEMMA2 = Page(
    family="decoder",
    year=2024,
    paper="Gemma 2: Improving Open Language Models at a Practical Size",
    url="https://arxiv.org/abs/2408.00118",
    particular="norms before and after each sublayer, capped scores and logits, every other layer slides, GeGLU",
    reference="Gemma2ForCausalLM",
    model_type="gemma2",
    source="https://arxiv.org/abs/2408.00118 (table 2, embedding and other parameters added up)",
    counted="language model",
    fields=MODERN
    | dict(
        vocab_size=256_000,
        max_position_embeddings=8192,
        norm_placement="sandwich",
        norm_unit_offset=True,
        hidden_act="gelu_pytorch_tanh",
        layer_types=repeat("sliding_attention", "full_attention"),
        sliding_window=4096,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        embedding_scale=root_of_width,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=1,
    ),
    sizes={
        "gemma2-2b": Size(2_614_341_888, "2,614M", _shape(2304, 9216, 26, 8, 4, head_dim=256)),
        "gemma2-9b": Size(9_241_705_984, "9,242M", _shape(3584, 14_336, 42, 16, 8, head_dim=256)),
        # Here the scores are scaled by the width per head, not by that of the heads.
        "gemma2-27b": Size(
            27_227_128_320,
            "27,227M",
            _shape(4608, 36_864, 46, 32, 16, head_dim=128, attention_scaling=144**-0.5),
        ),
    },
)

SMOLLM2 = Page(
    family="decoder",
    year=2025,
    paper="SmolLM2: When Smol Goes Big -- Data-Centric Training of a Small Language Model",
    url="https://arxiv.org/abs/2502.02737",
    particular="Llama, tied, and in the small sizes deep and thin",
    reference="LlamaForCausalLM",
    model_type="llama",
    source="https://arxiv.org/abs/2502.02737",
    counted="language model",
    fields=LLAMA.fields
    | dict(
        vocab_size=49_152,
        max_position_embeddings=8192,
        rope_parameters=dict(rope_type="default", rope_theta=100_000.0),
        norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    ),
    sizes={
        "smollm2-135m": Size(134_515_008, "135M", _shape(576, 1536, 30, 9, 3)),
        "smollm2-360m": Size(361_821_120, "360M", _shape(960, 2560, 32, 15, 5)),
        "smollm2-1.7b": Size(
            1_711_376_384,
            "1.7B",
            _shape(2048, 8192, 24, 32, rope_parameters=dict(rope_type="default", rope_theta=130_000.0)),
        ),
    },
)

PAGES = (GPT, GPT2, GPT3, BLOOM, LLAMA, MISTRAL, GEMMA2, LLAMA3, SMOLLM2)
