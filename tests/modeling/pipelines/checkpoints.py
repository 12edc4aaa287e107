"""Tiny checkpoints with tokenizers, and what is asked of them."""

from tests.families import HEADS, randomize
from trivium.tokenization.families import special_token_ids

TEXTS = [
    "Assignment statements are used",
    "the",
    "An expression statement evaluates the expression list (which may be)",
]
MASKED = ["Assignment [MASK] are used", "[MASK]", "An expression statement [MASK] the expression list (which may be)"]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What does the statement do?"}]
CONTEXTS = [f"{text}. " * 12 for text in TEXTS]
LABELS = {0: "contradiction", 1: "neutral", 2: "entailment"}
WORDS = ["code", "the weather of tomorrow"]
GREEDY = {"max_new_tokens": 6, "do_sample": False}
FAMILIES = ("encoder", "decoder", "encoder_decoder")


def asked(question: str) -> list[dict]:
    """A question about every context."""
    return [{"question": question, "context": context} for context in CONTEXTS]


# Task, family, head, input, arguments of the call.
CASES = [
    ("fill-mask", "encoder", "lm", MASKED, {"top_k": 3}),
    ("text-generation", "decoder", "lm", TEXTS, GREEDY),
    ("text-generation", "decoder", "lm", [CHAT, CHAT[1:]], GREEDY),
    *[("text-classification", family, "sequence", TEXTS, {"top_k": None}) for family in FAMILIES],
    *[("zero-shot-classification", family, "sequence", TEXTS, {"candidate_labels": WORDS}) for family in FAMILIES],
    *[
        ("token-classification", family, "tokens", TEXTS, {"aggregation_strategy": strategy, "ignore_labels": []})
        for family in FAMILIES
        for strategy in ("none", "simple")
    ],
    *[("feature-extraction", family, "base", TEXTS, {}) for family in ("encoder", "decoder")],
    *[
        ("extractive-question-answering", family, "answer", asked("What are they?"), {"max_seq_len": 40, "top_k": 2})
        for family in FAMILIES
    ],
    ("text-to-text", "encoder_decoder", "lm", TEXTS, {**GREEDY, "num_beams": 3, "num_return_sequences": 2}),
    ("text-summarization", "encoder_decoder", "lm", TEXTS, {"max_new_tokens": 6}),
    ("text-translation", "encoder_decoder", "lm", TEXTS, {"max_new_tokens": 6}),
]
NAMES = [f"{number}-{task}-{family}" for number, (task, family, *_) in enumerate(CASES)]


def make_checkpoint(folder, family, head, tokenizer, seed=0):
    """Saves a random model and its tokenizer; returns the model."""
    (kind,) = [known for known in HEADS if (known.family, known.task) == (family, head)]
    config = kind.model.config_class(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        id2label=LABELS,
        label2id={name: number for number, name in LABELS.items()},  # which transformers does not derive
        **special_token_ids(tokenizer),
    )
    model = kind.model(config).eval()
    randomize(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
