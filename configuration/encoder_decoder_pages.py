"""The encoder-decoders, each beside its paper."""

from .decoder_pages import GEMMA2
from .page import CLASSIC, Fields, Page, Size, inverse_root_of_width, root_of_width


def _shape(width: int, inner: int, layers: int, heads: int, **fields) -> Fields:
    """Hidden size, inner width of the feed-forward, depth of each side, heads."""
    shape = dict(hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads)
    return shape | fields


TRANSFORMER = Page(
    family="encoder-decoder",
    year=2017,
    paper="Attention Is All You Need",
    url="https://arxiv.org/abs/1706.03762",
    particular="the beginning: post-norm, sinusoids, ReLU, one scaled embedding for both sides and the output",
    reference="torch.nn.Transformer, MarianMTModel",
    model_type="marian",
    source="https://arxiv.org/abs/1706.03762 (table 3; English to German, about 37,000 tokens)",
    counted="language model",
    fields=CLASSIC
    | dict(
        vocab_size=37_000,
        position_encoding="sinusoidal",
        embedding_scale=root_of_width,
        norm_placement="post",
        hidden_act="relu",
        hidden_dropout=0.1,
        embedding_dropout=0.1,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    ),
    sizes={
        "transformer-base": Size(
            63_082_496, "65M", _shape(512, 2048, 6, 8), "63.1M with biases and exactly 37,000 tokens"
        ),
        "transformer-big": Size(
            214_245_376, "213M", _shape(1024, 4096, 6, 16), "214.2M with biases and exactly 37,000 tokens"
        ),
    },
)

MARIAN = Page(
    family="encoder-decoder",
    year=2018,
    paper="Marian: Fast Neural Machine Translation in C++",
    url="https://arxiv.org/abs/1804.00344",
    particular="the Transformer with swish and a bias on the logits; sizes and tokens of OPUS-MT English to German",
    reference="MarianMTModel",
    model_type="marian",
    source="https://huggingface.co/docs/transformers/model_doc/marian (298 MB in float32)",
    counted="language model",
    fields=TRANSFORMER.fields
    | dict(
        vocab_size=58_101,
        max_position_embeddings=512,
        hidden_act="silu",
        pad_token_id=58_100,
        eos_token_id=0,
        decoder_start_token_id=58_100,
        decoder=dict(lm_head_bias=True),
    ),
    sizes={
        "marian": Size(
            73_944_309,
            "74.5M",
            _shape(512, 2048, 6, 8),
            "298 MB / 4; the file has 0.5M of sinusoids, which are computed",
        )
    },
)

T5 = Page(
    family="encoder-decoder",
    year=2019,
    paper="Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
    url="https://arxiv.org/abs/1910.10683",
    particular="relative position buckets, RMSNorm before each sublayer, no biases, unscaled scores, scaled output",
    reference="T5ForConditionalGeneration",
    model_type="t5",
    source="https://arxiv.org/abs/1910.10683 (section 3.7)",
    counted="language model",
    fields=dict(
        vocab_size=32_128,
        max_position_embeddings=512,
        position_encoding="relative",
        attention_scaling=1.0,
        hidden_act="relu",
        gated_mlp=False,
        qk_norm=False,
        classifier_act="tanh",
        hidden_dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.1,
        embedding_dropout=0.1,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        decoder=dict(logit_scale=inverse_root_of_width),
    ),
    sizes={
        "t5-small": Size(60_506_624, "60M", _shape(512, 2048, 6, 8)),
        "t5-base": Size(222_903_552, "220M", _shape(768, 3072, 12, 12)),
        "t5-large": Size(737_668_096, "770M", _shape(1024, 4096, 24, 16), "737.7M: so the released checkpoint, too"),
        "t5-3b": Size(2_851_598_336, "3B", _shape(1024, 16_384, 24, 32, head_dim=128)),
        "t5-11b": Size(11_307_321_344, "11B", _shape(1024, 65_536, 24, 128, head_dim=128)),
    },
)

T5_V1_1 = Page(
    family="encoder-decoder",
    year=2020,
    paper="GLU Variants Improve Transformer",
    url="https://arxiv.org/abs/2002.05202",
    particular="T5 with a gated GELU and an output matrix of its own, which is not scaled; Flan-T5 is this, instructed",
    reference="T5ForConditionalGeneration",
    model_type="t5",
    source="https://arxiv.org/abs/2210.11416 (table 2, Flan-T5, which was made from these)",
    counted="language model",
    fields=T5.fields | dict(hidden_act="gelu_new", gated_mlp=True, tie_word_embeddings=False, decoder={}),
    sizes={
        f"{name}-{size}": Size(parameters, published, fields)
        for name in ("t5-v1.1", "flan-t5")
        for size, parameters, published, fields in (
            ("small", 76_961_152, "80M", _shape(512, 1024, 8, 6, head_dim=64)),
            ("base", 247_577_856, "250M", _shape(768, 2048, 12, 12)),
            ("large", 783_150_080, "780M", _shape(1024, 2816, 24, 16)),
            ("xl", 2_849_757_184, "3B", _shape(2048, 5120, 24, 32)),
            ("xxl", 11_135_332_352, "11B", _shape(4096, 10_240, 24, 64)),
        )
    },
)

BART = Page(
    family="encoder-decoder",
    year=2019,
    paper="BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation, Translation, and "
    "Comprehension",
    url="https://arxiv.org/abs/1910.13461",
    particular="post-norm, learned positions that start at 2, a norm after the embeddings",
    reference="BartForConditionalGeneration, BartForSequenceClassification",
    model_type="bart",
    source="https://github.com/facebookresearch/fairseq/tree/main/examples/bart",
    counted="language model",
    fields=CLASSIC
    | dict(
        vocab_size=50_265,
        position_encoding="learned",
        max_position_embeddings=1024,
        position_offset=2,
        embedding_norm=True,
        norm_placement="post",
        hidden_act="gelu",
        classifier_act="tanh",
        hidden_dropout=0.1,
        embedding_dropout=0.1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    ),
    sizes={
        "bart-base": Size(139_420_416, "140M", _shape(768, 3072, 6, 12)),
        "bart-large": Size(406_291_456, "400M", _shape(1024, 4096, 12, 16)),
    },
)

_2B = _shape(2304, 9216, 26, 8, num_key_value_heads=4, head_dim=256)
_9B = _shape(3584, 14_336, 42, 16, num_key_value_heads=8, head_dim=256)

T5GEMMA = Page(
    family="encoder-decoder",
    year=2025,
    paper="Encoder-Decoder Gemma: Improving the Quality-Efficiency Trade-Off via Adaptation",
    url="https://arxiv.org/abs/2504.06225",
    particular="Gemma 2 on both sides, which may differ in size; two embeddings",
    reference="T5GemmaForConditionalGeneration",
    model_type="t5gemma",
    source="https://github.com/keras-team/keras-hub (t5gemma_presets.py) for b-b, else the names of the models",
    counted="language model",
    fields=GEMMA2.fields | dict(share_embeddings=False, decoder_start_token_id=2),
    sizes={
        "t5gemma-b-b": Size(591_490_560, "591,490,560", _shape(768, 2048, 12, 12)),
        "t5gemma-2b-2b": Size(
            5_596_853_760, "2B + 2B", _2B, "the names leave out embeddings (0.6B a side) and cross-attention (0.4B)"
        ),
        "t5gemma-9b-2b": Size(
            12_292_375_296, "9B + 2B", dict(encoder=_9B, decoder=_2B), "the names leave out what t5gemma-2b-2b's do"
        ),
        "t5gemma-9b-9b": Size(
            20_333_401_088, "9B + 9B", _9B, "the names leave out embeddings (0.9B a side) and cross-attention (1.8B)"
        ),
    },
)

PAGES = (TRANSFORMER, MARIAN, T5, BART, T5_V1_1, T5GEMMA)
