"""What the invariant tests share: tiny models of every family, head and variant, and batches in every layout.

A text is a dictionary of unpadded inputs and labels; `one`, `padded` and `flattened` lay texts out as a model takes
them, and `per_text` reads the outputs of any layout back as one tensor a text.
"""

import math
from dataclasses import dataclass

import torch

from trivium import modeling
from trivium.configuration import TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig

IGNORE = -100
VOCAB = 96
CONFIGS = {
    "encoder": TriviumEncoderConfig,
    "decoder": TriviumDecoderConfig,
    "encoder_decoder": TriviumEncoderDecoderConfig,
}
TINY = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    eos_token_id=2,
)
SLIDING = dict(layer_types=["full_attention", "sliding_attention"], sliding_window=3)

# Every choice that the configuration offers, alone or with what it could get in the way of.
VARIANTS = {
    "plain": {},
    "learned": dict(position_encoding="learned"),
    "learned-offset": dict(position_encoding="learned", position_offset=2, embedding_norm=True),
    "sinusoidal": dict(position_encoding="sinusoidal", embedding_scale=32**0.5),
    "relative": dict(position_encoding="relative", attention_scaling=1.0, relative_attention_num_buckets=8),
    "alibi": dict(position_encoding="alibi", embedding_norm=True, norm="layernorm", norm_bias=True),
    "no-positions": dict(position_encoding="none"),
    "partial-rope": dict(rope_parameters=dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.5)),
    "rope-per-type": dict(
        rope_parameters=dict(
            full_attention=dict(rope_type="default", rope_theta=1000.0),
            sliding_attention=dict(rope_type="default", rope_theta=10.0),
        ),
        **SLIDING,
    ),
    "post-norm": dict(norm_placement="post", norm="layernorm", norm_bias=True),
    "layernorm-without-bias": dict(norm="layernorm", qk_norm=False),
    "sandwich": dict(norm_placement="sandwich", norm_unit_offset=True),
    "grouped": dict(num_key_value_heads=2, head_dim=12),
    "multi-query": dict(num_key_value_heads=1, qk_norm=False),
    "sliding": dict(SLIDING, num_key_value_heads=2),
    "all-sliding": dict(sliding_window=2),
    "sliding-alibi": dict(position_encoding="alibi", **SLIDING),
    "sliding-relative": dict(position_encoding="relative", num_key_value_heads=2, **SLIDING),
    "softcaps": dict(attn_logit_softcapping=2.0, final_logit_softcapping=3.0, logit_scale=0.5, num_key_value_heads=2),
    "softcap-sliding-alibi": dict(attn_logit_softcapping=2.0, position_encoding="alibi", **SLIDING),
    "biases": dict(
        attention_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        gated_mlp=False,
        hidden_act="gelu",
        qk_norm=False,
    ),
    "transform": dict(lm_head_transform=True, lm_head_bias=True, tie_word_embeddings=False, type_vocab_size=2),
    "classifier-act": dict(classifier_act="tanh", first_norm=False, embedding_norm=True),
    "bert": dict(
        position_encoding="learned",
        norm="layernorm",
        norm_bias=True,
        norm_placement="post",
        embedding_norm=True,
        type_vocab_size=2,
        gated_mlp=False,
        attention_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        qk_norm=False,
        lm_head_transform=True,
        lm_head_bias=True,
    ),
}
# What only one family has.
FAMILY_VARIANTS = {
    "encoder": {"pooler": dict(pooler=True), "mean-pooling": dict(classifier_pooling="mean")},
    "decoder": {},
    "encoder_decoder": {
        "own-embeddings": dict(share_embeddings=False, encoder=dict(vocab_size=VOCAB + 32)),
        "unequal-sides": dict(
            share_embeddings=False,
            tie_word_embeddings=False,
            encoder=dict(hidden_size=24, num_hidden_layers=1, norm_placement="post"),
            decoder=dict(num_key_value_heads=2, num_hidden_layers=3),
        ),
        "mixed-positions": dict(encoder=dict(position_encoding="alibi"), decoder=dict(position_encoding="relative")),
    },
}


@dataclass(frozen=True)
class Head:
    """A model class, its family and its task: base, lm, pretraining, next, sequence, tokens, answer or choice."""

    family: str
    task: str
    model: type

    def __str__(self) -> str:
        return f"{self.family}-{self.task}"

    @property
    def has_base(self) -> bool:
        """Whether the whole base model is inside: what labels tokens with an encoder-decoder has the encoder only."""
        return (self.family, self.task) != ("encoder_decoder", "tokens")

    @property
    def reads_source_twice(self) -> bool:
        """An encoder-decoder whose decoder makes its own input from the source."""
        return self.family == "encoder_decoder" and self.task in ("sequence", "answer")

    @property
    def has_target(self) -> bool:
        """An encoder-decoder that is given what the decoder reads."""
        return self.family == "encoder_decoder" and self.task in ("base", "lm")


HEADS = [
    Head("encoder", "base", modeling.TriviumEncoderModel),
    Head("encoder", "lm", modeling.TriviumEncoderForMaskedLM),
    Head("encoder", "pretraining", modeling.TriviumEncoderForPreTraining),
    Head("encoder", "next", modeling.TriviumEncoderForNextSentencePrediction),
    Head("encoder", "sequence", modeling.TriviumEncoderForSequenceClassification),
    Head("encoder", "tokens", modeling.TriviumEncoderForTokenClassification),
    Head("encoder", "answer", modeling.TriviumEncoderForQuestionAnswering),
    Head("encoder", "choice", modeling.TriviumEncoderForMultipleChoice),
    Head("decoder", "base", modeling.TriviumDecoderModel),
    Head("decoder", "lm", modeling.TriviumDecoderForCausalLM),
    Head("decoder", "sequence", modeling.TriviumDecoderForSequenceClassification),
    Head("decoder", "tokens", modeling.TriviumDecoderForTokenClassification),
    Head("decoder", "answer", modeling.TriviumDecoderForQuestionAnswering),
    Head("encoder_decoder", "base", modeling.TriviumEncoderDecoderModel),
    Head("encoder_decoder", "lm", modeling.TriviumEncoderDecoderForConditionalGeneration),
    Head("encoder_decoder", "sequence", modeling.TriviumEncoderDecoderForSequenceClassification),
    Head("encoder_decoder", "tokens", modeling.TriviumEncoderDecoderForTokenClassification),
    Head("encoder_decoder", "answer", modeling.TriviumEncoderDecoderForQuestionAnswering),
]
TEXT_HEADS = [head for head in HEADS if head.task != "choice"]
TRAINED_HEADS = [head for head in HEADS if head.task != "base"]
LM_HEADS = [head for head in HEADS if head.task == "lm"]
BASE_HEADS = [head for head in HEADS if head.task == "base"]
# Every language model with every variant, and every head with the variants that mix most choices.
CASES = [(head, name) for head in LM_HEADS for name in (*VARIANTS, *FAMILY_VARIANTS[head.family])]
CASES += [
    (head, name)
    for head in TEXT_HEADS
    if head not in LM_HEADS
    for name in ("plain", "bert", "classifier-act", "sliding-relative", *FAMILY_VARIANTS[head.family])
]


def case_name(value) -> str | None:
    """The name of a parameter in a test's id."""
    return str(value) if isinstance(value, Head) else None


def make_config(family: str, variant: str = "plain", **changes):
    """The tiny configuration of a variant."""
    fields = TINY | (VARIANTS | FAMILY_VARIANTS[family])[variant] | changes
    return CONFIGS[family](**fields)


def make_model(head: Head, variant: str = "plain", dtype: torch.dtype = torch.float32, seed: int = 0, **changes):
    """The tiny model of a variant in evaluation mode, every parameter drawn large enough that a leak would show."""
    model = head.model(make_config(head.family, variant, **changes))
    randomize(model, seed)
    return model.to(dtype).eval()


@torch.no_grad()
def randomize(model: torch.nn.Module, seed: int = 0) -> None:
    """Draws every parameter: matrices that keep the scale of states, norms around what they are, biases too."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            parameter.add_(0.3 * noise)
        elif "embed" in name or "table" in name:
            parameter.copy_(noise)
        else:
            parameter.copy_(noise / math.sqrt(parameter.shape[1]))


def draw_texts(head: Head, config, lengths=(5, 9, 1, 5), seed: int = 0, labels: bool = False) -> list[dict]:
    """Texts of these lengths with what `head` reads and, if asked, the labels that it learns from."""
    generator = torch.Generator().manual_seed(seed)
    return [_draw_text(head, config, length, generator, labels, i) for i, length in enumerate(lengths)]


def _draw_text(head, config, length, generator, labels, number):
    def draw(size, low=3, high=VOCAB):
        return torch.randint(low, high, size, generator=generator)

    text = {"input_ids": draw((length,))}
    if head.family == "encoder" and config.type_vocab_size:
        text["token_type_ids"] = draw((length,), 0, 2)
    target = (3, 2, 6, 1, 4)[number % 5]
    if head.has_target:
        text["decoder_input_ids"] = draw((target,))
    if not labels or head.task == "base":
        return text
    classes = config.num_labels
    if head.task in ("lm", "pretraining", "tokens"):
        size = target if head.has_target else length
        high = VOCAB if head.task != "tokens" else classes
        text["labels"] = text["input_ids"].clone() if str(head) == "decoder-lm" else draw((size,), 0, high)
        if size > 2:
            text["labels"][draw((1,), 1, size)] = IGNORE
    if head.task == "pretraining":
        text["next_sentence_label"] = draw((), 0, 2)
    if head.task in ("sequence", "next"):
        text["labels"] = draw((), 0, 2 if head.task == "next" else classes)
    if head.task == "answer":
        text["start_positions"] = draw((), 0, length)
        text["end_positions"] = draw((), 0, length)
    return text


PADDING = {"labels": IGNORE}


def one(text: dict) -> dict:
    """A batch of one text, unpadded."""
    return {name: value.unsqueeze(0) for name, value in text.items()}


def padded(texts: list[dict], side: str = "right", pad_token: int = 0) -> dict:
    """A rectangle with masks; what stands under the padding must not matter, so a real token may be asked for."""
    batch = {}
    for name in texts[0]:
        values = [text[name] for text in texts]
        if values[0].ndim == 0:
            batch[name] = torch.stack(values)
            if name.endswith("_positions") and side == "left":
                widths = torch.tensor([len(text["input_ids"]) for text in texts])
                batch[name] = batch[name] + widths.max() - widths
            continue
        batch[name] = _rectangle(values, side, PADDING.get(name, 0 if name == "token_type_ids" else pad_token))
        mask = {"input_ids": "attention_mask", "decoder_input_ids": "decoder_attention_mask"}.get(name)
        if mask:
            batch[mask] = _rectangle([torch.ones_like(value) for value in values], side, 0)
    return batch


def _rectangle(values, side, filler):
    batch = torch.full((len(values), max(map(len, values))), filler)
    for row, value in zip(batch, values, strict=True):
        if side == "right":
            row[: len(value)] = value
        else:
            row[len(row) - len(value) :] = value
    return batch


def flattened(texts: list[dict], lengths: str = "position_ids") -> dict:
    """One row without padding; `position_ids`, `cu_seq_lens`, `both`, or positions and a full `mask` tell documents."""
    batch = {}
    for name in texts[0]:
        values = [text[name] for text in texts]
        batch[name] = torch.stack(values) if values[0].ndim == 0 else torch.cat(values)[None]
    # Stock collators give both for a single text; a decoder that also attends has its own, and q is its.
    sides = {"": "k", "decoder_": "q"} if "decoder_input_ids" in batch else {"": "qk"}
    for prefix, letters in sides.items():
        ids = f"{prefix}input_ids"
        if ids not in batch:
            continue
        sizes = [len(text[ids]) for text in texts]
        if lengths != "cu_seq_lens":
            batch[f"{prefix}position_ids"] = torch.cat([torch.arange(size) for size in sizes])[None]
        if lengths in ("cu_seq_lens", "both"):
            bounds = torch.tensor([0, *sizes]).cumsum(0).to(torch.int32)
            batch |= {f"cu_seq_lens_{letter}": bounds for letter in letters}
        if lengths == "mask":
            batch[f"{prefix}attention_mask"] = torch.ones_like(batch[ids])
    return batch


def main_outputs(output) -> list[torch.Tensor]:
    """The tensors that a head is asked for."""
    names = (
        "logits",
        "prediction_logits",
        "seq_relationship_logits",
        "start_logits",
        "end_logits",
        "last_hidden_state",
        "pooler_output",
    )
    return [output[name] for name in names if output.get(name) is not None]


def per_text(head: Head, output, texts: list[dict], layout: str) -> list[list[torch.Tensor]]:
    """What a head says of each text, from the output of a `right`, `left` (padded) or `flat` batch."""
    ids = "decoder_input_ids" if head.has_target else "input_ids"
    sizes = [len(text[ids]) for text in texts]
    rows = []
    for tensor in main_outputs(output):
        if head.task in ("sequence", "next") or tensor.shape[:2] not in ((1, sum(sizes)), (len(texts), max(sizes))):
            assert len(tensor) == len(texts)
            rows.append(list(tensor))
        elif layout == "flat":
            rows.append(list(tensor[0].split(sizes)))
        elif layout == "right":
            rows.append([row[:size] for row, size in zip(tensor, sizes, strict=True)])
        else:
            rows.append([row[len(row) - size :] for row, size in zip(tensor, sizes, strict=True)])
    return [list(outputs) for outputs in zip(*rows, strict=True)]


def run_one_by_one(model, head: Head, texts: list[dict]) -> list[list[torch.Tensor]]:
    """What a head says of each text when it stands alone."""
    return [per_text(head, model(**one(text)), [text], "right")[0] for text in texts]


def distance(first, second) -> float:
    """The largest difference between nested lists of tensors, relative to their largest number if it exceeds one."""
    if isinstance(first, torch.Tensor):
        if first.numel() == 0:
            return 0.0
        assert first.shape == second.shape, (first.shape, second.shape)
        scale = max(1.0, second.abs().max().item())
        return (first.double() - second.double()).abs().max().item() / scale
    assert len(first) == len(second)
    return max((distance(a, b) for a, b in zip(first, second, strict=True)), default=0.0)


TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
