"""The encoders, each beside its paper."""

from .page import CLASSIC, Page, Size, repeat

BERT = Page(
    family="encoder",
    year=2018,
    paper="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
    url="https://arxiv.org/abs/1810.04805",
    particular="post-norm, learned positions, segments, a pooler, a transform before the output matrix",
    reference="BertForPreTraining and every other Bert head",
    model_type="bert",
    source="https://arxiv.org/abs/1810.04805 (section 3)",
    counted="stack",
    fields=CLASSIC
    | dict(
        vocab_size=30_522,
        position_encoding="learned",
        max_position_embeddings=512,
        type_vocab_size=2,
        embedding_norm=True,
        norm_placement="post",
        norm_eps=1e-12,
        hidden_act="gelu",
        pooler=True,
        lm_head_transform=True,
        lm_head_bias=True,
        hidden_dropout=0.1,
        attention_dropout=0.1,
        embedding_dropout=0.1,
        classifier_dropout=0.1,
        pad_token_id=0,
        cls_token_id=101,
        sep_token_id=102,
        mask_token_id=103,
    ),
    sizes={
        "bert-base": Size(109_482_240, "110M", dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12)),
        "bert-large": Size(335_141_888, "340M", dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16)),
    },
)

ROBERTA = Page(
    family="encoder",
    year=2019,
    paper="RoBERTa: A Robustly Optimized BERT Pretraining Approach",
    url="https://arxiv.org/abs/1907.11692",
    particular="BERT without segments (one, that adds a constant), positions that start at 2",
    reference="RobertaForMaskedLM and the other Roberta heads",
    model_type="roberta",
    source="https://github.com/facebookresearch/fairseq/tree/main/examples/roberta",
    counted="stack",
    fields=BERT.fields
    | dict(
        vocab_size=50_265,
        position_offset=2,
        type_vocab_size=1,
        norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        cls_token_id=0,
        sep_token_id=2,
        mask_token_id=50_264,
    ),
    sizes={
        "roberta-base": Size(124_645_632, "125M", dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12)),
        "roberta-large": Size(
            355_359_744, "355M", dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16)
        ),
    },
)

DISTILBERT = Page(
    family="encoder",
    year=2019,
    paper="DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
    url="https://arxiv.org/abs/1910.01108",
    particular="half of BERT's layers, no segments, no pooler; classifiers with a dense layer of their own",
    reference="DistilBertForMaskedLM and the other DistilBert heads",
    model_type="distilbert",
    source="https://arxiv.org/abs/1910.01108 (table 3)",
    counted="stack",
    fields=BERT.fields | dict(type_vocab_size=0, pooler=False, classifier_act="relu", classifier_dropout=0.2),
    sizes={
        "distilbert": Size(66_362_880, "66M", dict(hidden_size=768, num_hidden_layers=6, num_attention_heads=12)),
    },
)

MINILM = Page(
    family="encoder",
    year=2020,
    paper="MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
    url="https://arxiv.org/abs/2002.10957",
    particular="a small BERT, distilled; the sentence encoder all-MiniLM-L6-v2 has these sizes",
    reference="BertModel",
    model_type="bert",
    source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    counted="stack",
    fields=BERT.fields,
    sizes={
        "minilm-l6": Size(22_713_216, "22.7M", dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12)),
    },
)

MODERNBERT = Page(
    family="encoder",
    year=2024,
    paper="Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder for Fast, Memory Efficient, and Long "
    "Context Finetuning and Inference",
    url="https://arxiv.org/abs/2412.13663",
    particular="pre-norm, GeGLU, no biases, one global layer in three, RoPE with a base per layer type",
    reference="ModernBertForMaskedLM",
    model_type="modernbert",
    source="https://arxiv.org/abs/2412.13663 (table 4)",
    counted="stack",
    fields=dict(
        vocab_size=50_368,
        max_position_embeddings=8192,
        rope_parameters=dict(full_attention=dict(rope_theta=160_000.0), sliding_attention=dict(rope_theta=10_000.0)),
        layer_types=repeat("full_attention", "sliding_attention", "sliding_attention"),
        sliding_window=64,
        norm="layernorm",
        norm_eps=1e-5,
        embedding_norm=True,
        first_norm=False,
        hidden_act="gelu",
        qk_norm=False,
        lm_head_transform=True,
        lm_head_bias=True,
        pad_token_id=50_283,
        bos_token_id=50_281,
        eos_token_id=50_282,
        cls_token_id=50_281,
        sep_token_id=50_282,
        mask_token_id=50_284,
    ),
    sizes={
        "modernbert-base": Size(
            149_014_272,
            "149M",
            dict(hidden_size=768, intermediate_size=1152, num_hidden_layers=22, num_attention_heads=12),
        ),
        "modernbert-large": Size(
            394_781_696,
            "395M",
            dict(hidden_size=1024, intermediate_size=2624, num_hidden_layers=28, num_attention_heads=16),
        ),
    },
)

PAGES = (BERT, ROBERTA, DISTILBERT, MINILM, MODERNBERT)
