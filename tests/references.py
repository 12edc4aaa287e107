"""Tiny models of transformers, one for each architecture, and how they are compared with ours.

A reference is its configuration in transformers' own terms, so that the reading of configurations is tested too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import transformers
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from trivium.modeling.conversion.origins import ORIGINS

VOCAB = 64
PAD, BOS, EOS = 0, 1, 2
TOKENS = dict(pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
BERT = dict(
    vocab_size=VOCAB,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=40,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    max_position_embeddings=32,
)
GPT = dict(vocab_size=VOCAB, n_embd=24, n_layer=2, n_head=4, n_positions=32, resid_pdrop=0.0, embd_pdrop=0.0)
GPT |= dict(attn_pdrop=0.0)
LLAMA = dict(
    vocab_size=VOCAB,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
)
BART = dict(
    vocab_size=VOCAB,
    d_model=24,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=2,
    encoder_ffn_dim=40,
    decoder_ffn_dim=32,
    max_position_embeddings=32,
    dropout=0.0,
    decoder_start_token_id=EOS,
    forced_eos_token_id=None,
)
T5 = dict(
    vocab_size=VOCAB,
    d_model=24,
    d_kv=8,
    d_ff=40,
    num_layers=3,
    num_decoder_layers=2,  # with more than in the encoder, their cache is too short to generate
    num_heads=4,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=12,
    dropout_rate=0.0,
    decoder_start_token_id=PAD,
)
GEMMA = LLAMA | dict(
    head_dim=8,
    sliding_window=3,
    query_pre_attn_scalar=16,
    attn_logit_softcapping=5.0,
    final_logit_softcapping=4.0,
    attn_implementation="eager",
)


@dataclass(frozen=True)
class Reference:
    """A `model_type` of transformers, the fields of a tiny configuration, and the classes to compare (`None` = all).

    `generates` is false where their generation fails.
    """

    name: str
    model_type: str
    fields: dict = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    generates: bool = True

    def config(self, name: str) -> transformers.PreTrainedConfig:
        """The configuration for one of the classes."""
        fields = TOKENS | self.fields
        if name in ("BertLMHeadModel", "RobertaForCausalLM"):
            fields |= dict(is_decoder=True)
        attention = fields.pop("attn_implementation", None)
        config = transformers.AutoConfig.for_model(self.model_type, **fields)
        if attention:
            config._attn_implementation = attention
        return config

    def model(self, name: str, seed: int = 0) -> PreTrainedModel:
        """A model of one of the classes with every parameter drawn at random."""
        torch.manual_seed(seed)
        model = getattr(transformers, name)(self.config(name))
        randomize(model)
        return model.eval()


LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0)
SIDE = {key: value for key, value in GEMMA.items() if key != "attn_implementation"} | TOKENS

# One row for each architecture of the table, and for the choices that checkpoints of one architecture differ in.
REFERENCES = {
    reference.name: reference
    for reference in (
        Reference("transformer", "marian", BART | dict(activation_function="relu", scale_embedding=True)),
        Reference("marian", "marian", BART | dict(activation_function="swish", scale_embedding=True)),
        Reference(
            "marian-two-vocabularies",
            "marian",
            BART
            | dict(
                decoder_vocab_size=VOCAB + 8,
                share_encoder_decoder_embeddings=False,
                tie_word_embeddings=False,
            ),
            generates=False,  # up to transformers 5.17 their beam search takes the wrong one of the two sizes
        ),
        Reference("gpt", "openai-gpt", GPT),
        Reference("bert", "bert", BERT),
        Reference("minilm", "bert", BERT | dict(num_hidden_layers=3, num_attention_heads=6), ("BertModel",)),
        Reference("gpt2", "gpt2", GPT),
        Reference("gpt2-unscaled", "gpt2", GPT | dict(n_inner=36, scale_attn_weights=False), ("GPT2LMHeadModel",)),
        Reference(
            "roberta", "roberta", BERT | dict(pad_token_id=1, bos_token_id=0, type_vocab_size=1, layer_norm_eps=1e-5)
        ),
        Reference(
            "distilbert",
            "distilbert",
            dict(
                vocab_size=VOCAB,
                dim=24,
                n_layers=2,
                n_heads=4,
                hidden_dim=40,
                max_position_embeddings=32,
                dropout=0.0,
                attention_dropout=0.0,
                seq_classif_dropout=0.0,
                qa_dropout=0.0,
            ),
        ),
        Reference("t5", "t5", T5),
        Reference("t5-v1.1", "t5", T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
        Reference("bart", "bart", BART),
        Reference("bart-scaled", "bart", BART | dict(scale_embedding=True), ("BartForConditionalGeneration",)),
        Reference(
            "gpt3",
            "gpt_neo",
            dict(
                vocab_size=VOCAB,
                hidden_size=24,
                num_layers=3,
                num_heads=4,
                max_position_embeddings=32,
                attention_types=[[["global", "local", "global"], 1]],
                window_size=3,
                resid_dropout=0.0,
                embed_dropout=0.0,
                attention_dropout=0.0,
            ),
        ),
        Reference("bloom", "bloom", dict(vocab_size=VOCAB, hidden_size=24, n_layer=2, n_head=6)),
        Reference("llama", "llama", LLAMA | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=False)),
        Reference(
            "llama3",
            "llama",
            LLAMA | dict(rope_parameters=LLAMA3 | dict(original_max_position_embeddings=8)),
            ("LlamaForCausalLM",),
        ),
        Reference("smollm2", "llama", LLAMA | dict(tie_word_embeddings=True), ("LlamaForCausalLM",)),
        Reference("mistral", "mistral", LLAMA | dict(sliding_window=3, head_dim=8, tie_word_embeddings=False)),
        Reference("mistral-full", "mistral", LLAMA | dict(sliding_window=None), ("MistralForCausalLM",)),
        Reference("qwen3", "qwen3", LLAMA | dict(head_dim=8)),
        Reference("gemma2", "gemma2", GEMMA),
        Reference(
            "modernbert",
            "modernbert",
            dict(
                vocab_size=VOCAB,
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=4,
                num_attention_heads=4,
                max_position_embeddings=32,
                local_attention=4,
                cls_token_id=BOS,
                sep_token_id=EOS,
            ),
        ),
        Reference(
            "t5gemma",
            "t5gemma",
            dict(
                encoder=SIDE | dict(hidden_size=32, num_hidden_layers=2),
                decoder=SIDE,
                vocab_size=VOCAB,
                attn_implementation="eager",
            ),
        ),
    )
}
CASES = [
    (reference, name)
    for reference in REFERENCES.values()
    for name in reference.classes or ORIGINS[reference.model_type].heads
]


def case_id(value) -> str:
    """The name of a reference or a class in a test's id."""
    return value.name if isinstance(value, Reference) else str(value)


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Draws every weight, norms and biases too: nothing hides behind ones and zeros."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue  # Marian's sinusoids
        scale = 0.3 if parameter.ndim == 1 else 1 / math.sqrt(min(parameter.shape))
        parameter.copy_(scale * torch.randn_like(parameter) + (1.0 if parameter.ndim == 1 else 0.0))
    if isinstance(bias := getattr(model, "final_logits_bias", None), torch.Tensor):
        bias.copy_(torch.randn_like(bias))


@torch.no_grad()
def widen(model: nn.Module) -> nn.Module:
    """All weights in float64; the frequencies of RoPE stay as they are, in float32, on both sides."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor.dtype == torch.float32 and "inv_freq" not in name:
                    tensor.data = tensor.data.double()
        # What was computed in float64 and kept in float32.
        if hasattr(module, "scalar_embed_scale"):
            module.embed_scale.fill_(module.scalar_embed_scale)
        if type(module).__name__ == "MarianSinusoidalPositionalEmbedding":
            positions, width = module.weight.shape
            powers = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
            angles = torch.outer(torch.arange(positions, dtype=torch.float64), powers)
            module.weight.copy_(torch.cat((angles.sin(), angles.cos()), 1))
    return model


class FullPrecision(TorchFunctionMode):
    """Leaves float64 what a reference would take to float32 whatever it is given: norms, scores, losses.

    What is compared is then the mathematics of both to the last digits, not the rounding of one.
    """

    NARROWING = (torch.Tensor.to, torch.Tensor.float, torch.Tensor.type)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Drops a request for float32 where the tensor is float64."""
        kwargs = dict(kwargs or {})
        wide = bool(args) and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64
        if wide and func is torch.Tensor.float:
            return args[0]
        if wide and kwargs.get("dtype") == torch.float32:
            kwargs["dtype"] = torch.float64
        if wide and func in self.NARROWING:
            args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
        return func(*args, **kwargs)


def draw_batch(model: PreTrainedModel, padded: bool, seed: int = 1) -> dict[str, torch.Tensor]:
    """What a class of transformers reads, with labels, padded on the right if asked.

    The rows end in the end-of-sequence token and have no other: BART's and T5's classifiers look for it.
    """
    generator = torch.Generator().manual_seed(seed)
    name, config = type(model).__name__, model.config

    def draw(*size: int, low: int = 3, high: int = VOCAB) -> torch.Tensor:
        return torch.randint(low, high, size, generator=generator)

    ids, mask = draw(3, 9), torch.ones(3, 9, dtype=torch.long)
    if padded:
        mask[1, 6:] = mask[2, 3:] = 0
    lengths = mask.sum(1)
    ids[torch.arange(3), lengths - 1] = EOS
    pad = config.get_text_config().pad_token_id
    ids = ids.masked_fill(mask == 0, pad)
    batch = {"input_ids": ids}
    if padded:
        batch["attention_mask"] = mask
    if name.startswith("Bert"):
        batch |= {} if name == "BertLMHeadModel" else {"token_type_ids": draw(3, 9, low=0, high=2)}
    if name.endswith("MultipleChoice"):
        batch = {key: torch.stack([value, value.flip(0)], 1) for key, value in batch.items()}
        return batch | {"labels": draw(3, low=0, high=2)}
    return batch | dict(_labels(name, config, ids, mask, lengths, draw))


def _labels(name, config, ids, mask, lengths, draw) -> Iterator[tuple[str, torch.Tensor]]:
    if name.endswith("Model") and name not in (
        "BertLMHeadModel",
        "OpenAIGPTLMHeadModel",
        "GPT2LMHeadModel",
        "MarianMTModel",
    ):
        if config.is_encoder_decoder:
            yield "decoder_input_ids", draw(3, 5)
    elif name.endswith("SequenceClassification"):
        yield "labels", draw(3, low=0, high=config.num_labels)
    elif name.endswith("NextSentencePrediction"):
        yield "labels", draw(3, low=0, high=2)
    elif name.endswith("TokenClassification"):
        yield "labels", draw(3, 9, low=0, high=config.num_labels).masked_fill(mask == 0, -100)
    elif name.endswith("QuestionAnswering"):
        if mask.all():  # ours makes no answer of padding, theirs does: the losses of a padded batch differ
            yield "start_positions", draw(3, low=0, high=9)
            yield "end_positions", draw(3, low=0, high=9)
    elif config.is_encoder_decoder:
        labels = draw(3, 5)
        labels[1, 3:] = -100
        yield "labels", labels
    else:
        yield "labels", ids.masked_fill(mask == 0, -100)
        if name.endswith("PreTraining"):
            yield "next_sentence_label", draw(3, low=0, high=2)
