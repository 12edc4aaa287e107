"""The configuration of one stack of blocks: every choice in which the published transformers differ.

`TriviumConfig` holds what encoder and decoder share; `families.py` derives from it what users name.
"""

import copy
import difflib
import functools
import re
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers.configuration_utils import PreTrainedConfig

from .bundle import SelfContainedConfig
from .errors import InputError
from .validation import LAYER_TYPES, check_rotary, check_stack, describe_type

# What `PreTrainedConfig` understands beside its fields, in any transformers release we support. Everything else that is
# not a field is a mistake: stock configurations would keep it silently as an attribute that nothing reads.
INHERITED_ARGUMENTS = frozenset(
    "adapter_config attn_implementation auto_map compression_config custom_pipelines dtype experts_implementation"
    " is_causal kernel_config model_type name_or_path num_labels output_attentions output_hidden_states"
    " partial_rotary_factor per_layer_config quantization_config return_dict rope_scaling rope_theta"
    " task_specific_params tie_last_hidden_states torch_dtype torch_version transformers_version transformers_weights"
    " trivium_version".split()
)


def only_known(cls, fields: dict[str, Any]) -> dict[str, Any]:
    """What of `fields` the constructor of `cls` takes: a saved configuration can always be loaded again."""
    known = cls.known_arguments()
    private = ("_name_or_path", "_commit_hash")
    return {name: value for name, value in fields.items() if name in known or name in private}


def trivium_config(cls):
    """Class decorator: a `strict` configuration whose every refusal is one `InputError` with one sentence.

    `strict` is not inherited, so every configuration class wears this decorator.
    """
    cls = strict(cls)
    strict_init = cls.__init__

    @functools.wraps(strict_init)
    def __init__(self, **kwargs):
        refuse_unknown(cls, kwargs)
        try:
            strict_init(self, **kwargs)
        except StrictDataclassError as error:
            cause = error.__cause__
            if isinstance(cause, InputError):
                raise cause from None
            raise InputError(f"{cls.__name__}: {explain(cls, error, kwargs)}.") from None

    cls.__init__ = __init__
    return cls


def explain(cls, error: StrictDataclassError, arguments: dict[str, Any]) -> str:
    """What `strict` found wrong with the arguments of `cls`, without the types in Python's notation."""
    field = re.match(r"Validation error for field '(\w+)'", str(error))
    if field is None or field[1] not in arguments:
        return str(error.__cause__ or error).split("\n")[0].rstrip(".")
    annotation = cls.__dataclass_fields__[field[1]].type
    return f"`{field[1]}` must be {describe_type(annotation)}, not {arguments[field[1]]!r}"


def refuse_unknown(cls, arguments: dict[str, Any]) -> None:
    """Raises `InputError` for the first argument that `cls` does not know, naming the nearest that it does."""
    known = cls.known_arguments()
    for name in arguments:
        if name not in known and not name.startswith("_"):
            nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
            hint = f"did you mean `{nearest[0]}`?" if nearest else f"the fields are listed by `help({cls.__name__})`."
            raise InputError(f"{cls.__name__} has no field `{name}`: {hint}")


@trivium_config
class TriviumConfig(SelfContainedConfig):
    r"""A stack of transformer blocks (Vaswani et al., 2017), and the choices that tell architectures apart.

    Field names are those of transformers. `None` means: derived from the other fields, as said.

    Shape:
        vocab_size: rows of the embedding; a multiple of 64 keeps the matrix products fast.
        hidden_size, num_hidden_layers, num_attention_heads: width, depth, query heads.
        intermediate_size: inner width of the feed-forward; `None` = 4 x hidden, or 8/3 x hidden in multiples of 64
            if gated.
        num_key_value_heads: `None` = all heads (MHA); fewer = grouped (GQA, Ainslie et al., 2023); 1 = MQA (Shazeer,
            2019).
        head_dim: `None` = hidden_size / num_attention_heads.
        max_position_embeddings: the longest sequence; a hard limit for learned positions.
    Positions:
        position_encoding: `rope` (Su et al., 2021), `learned`, `sinusoidal` (2017), `relative` (T5 buckets, Raffel
            et al., 2020), `alibi` (Press et al., 2022) or `none`.
        rope_parameters: as in transformers (`rope_theta`, `rope_type`, ...); one dict, or one per layer type.
        relative_attention_num_buckets, relative_attention_max_distance: of the T5 bias.
        position_offset: first row of the position table in use (RoBERTa and BART: 2).
    Block:
        norm, norm_eps, norm_bias, norm_unit_offset: `rmsnorm` or `layernorm`; the offset is Gemma's `1 + weight`.
        norm_placement: `pre` (GPT-2, Llama), `post` (2017, BERT), `sandwich` (Gemma 2: before and after each sublayer).
        first_norm: the norm before the first attention (ModernBERT leaves it out: its embeddings are normed already).
        final_norm: a norm after the last block; `None` = unless the placement is `post`.
        hidden_act, gated_mlp: any activation of transformers; gated = GLU variants (Shazeer, 2020).
        layer_types: `full_attention` or `sliding_attention` per layer; `None` = all sliding if a window is set, else
            all full.
        sliding_window: tokens that a causal sliding layer sees, itself included; in an encoder the distance that it
            sees to either side (transformers' two conventions).
        attention_scaling: factor on the scores; `None` = head_dim ** -0.5 (T5: 1.0).
        attn_logit_softcapping, final_logit_softcapping: Gemma 2's tanh caps; `None` = none.
        logit_scale: factor on the output logits; `None` = 1.
        qk_norm: an RMSNorm on the queries and keys of every head.
        attention_bias, attention_output_bias, mlp_bias: biases of q/k/v, of the output projection, of the feed-forward
            (and of `lm_head_transform`).
    Ends:
        embedding_scale: factor on the token embeddings (2017, Gemma: hidden_size ** 0.5); `None` = 1.
        embedding_norm: a norm after the embeddings (BERT, BLOOM, BART).
        type_vocab_size: rows of the segment table; 0 = no segments.
        lm_head_transform: dense + activation + norm before the output matrix (BERT).
        lm_head_bias: a bias on the logits.
        tie_word_embeddings: the output matrix is the embedding.
        classifier_act: a dense layer with this activation between a text's vector and its classifier (RoBERTa and BART:
            tanh; DistilBERT: relu); `None` = no such layer.
        origin: the `model_type` in transformers of the checkpoint that the weights were converted from, if they were.
    Training:
        hidden_dropout (each sublayer's output), attention_dropout (probabilities), activation_dropout (inside the
        feed-forward), embedding_dropout, classifier_dropout; initializer_range: standard deviation of the initial
        weights.

    Raises:
        InputError: a field that does not exist (with the nearest that does), a value of the wrong type or range, or a
            combination that cannot be built, in one sentence that says what would be right.
    """

    keys_to_ignore_at_inference = ["past_key_values"]
    base_model_tp_plan = {
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.q_norm": "replicated_with_grad_allreduce",
        "layers.*.self_attn.k_norm": "replicated_with_grad_allreduce",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }
    base_model_pp_plan = {
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "norm": (["hidden_states"], ["hidden_states"]),
    }

    vocab_size: int = 32_768
    hidden_size: int = 512
    intermediate_size: int | None = None
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048

    position_encoding: Literal["rope", "learned", "sinusoidal", "relative", "alibi", "none"] = "rope"
    rope_parameters: dict[str, Any] | None = None
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    position_offset: int = 0

    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_placement: Literal["pre", "post", "sandwich"] = "pre"
    norm_eps: float = 1e-6
    norm_bias: bool = False
    norm_unit_offset: bool = False
    first_norm: bool = True
    final_norm: bool | None = None
    hidden_act: str = "silu"
    gated_mlp: bool = True
    layer_types: list[str] | None = None
    sliding_window: int | None = None
    attention_scaling: float | int | None = None
    attn_logit_softcapping: float | int | None = None
    final_logit_softcapping: float | int | None = None
    logit_scale: float | int | None = None
    qk_norm: bool = True
    attention_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False

    embedding_scale: float | int | None = None
    embedding_norm: bool = False
    type_vocab_size: int = 0
    lm_head_transform: bool = False
    lm_head_bias: bool = False
    tie_word_embeddings: bool = True
    classifier_act: str | None = None
    origin: str | None = None

    hidden_dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    embedding_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.0
    initializer_range: float = 0.02

    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs):
        if self.head_dim is None and self.num_attention_heads > 0:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.intermediate_size is None:
            gated = 64 * max(1, round(self.hidden_size * 8 / 3 / 64))
            self.intermediate_size = gated if self.gated_mlp else 4 * self.hidden_size
        if self.final_norm is None:
            self.final_norm = self.norm_placement != "post"
        if self.layer_types is None:
            kind = "full_attention" if self.sliding_window is None else "sliding_attention"
            self.layer_types = [kind] * self.num_hidden_layers
        # The plan names what there is: a plain feed-forward has no gate, and heads without norms none to replicate.
        absent = set() if self.gated_mlp else {"gate_proj"}
        absent |= set() if self.qk_norm else {"q_norm", "k_norm"}
        absent |= set() if getattr(self, "add_cross_attention", False) else {"cross_attn"}
        plan = type(self).base_model_tp_plan
        self.base_model_tp_plan = {name: how for name, how in plan.items() if absent.isdisjoint(name.split("."))}
        super().__post_init__(**kwargs)

    @classmethod
    def known_arguments(cls) -> frozenset[str]:
        """Every name that the constructor accepts."""
        return frozenset(cls.__dataclass_fields__) | INHERITED_ARGUMENTS

    def convert_rope_params_to_dict(self, **kwargs):
        """Completes `rope_parameters` where RoPE is used and keeps it `None` elsewhere (called by transformers)."""
        if self.position_encoding != "rope":
            for name in ("rope_parameters", "rope_theta", "rope_scaling"):
                if kwargs.get(name, getattr(self, name, None)) is not None:
                    raise InputError(
                        f"{type(self).__name__}: `{name}` needs position_encoding='rope', not "
                        f"'{self.position_encoding}': drop one of the two."
                    )
            return kwargs
        self.rope_parameters = copy.deepcopy(self.rope_parameters)  # what is completed is ours, not the caller's
        given = self.rope_parameters or {}
        kinds = [kind for kind in LAYER_TYPES if kind in given]
        parts = [part for part in ([given[kind] for kind in kinds] or [given]) if isinstance(part, dict)]
        for name in ("rope_theta", "partial_rotary_factor"):
            value, said = kwargs.get(name), [part[name] for part in parts if name in part]
            if value is not None and any(other != value for other in said):
                raise InputError(
                    f"{type(self).__name__}: `{name}` is {value!r}, but `rope_parameters` has it as {said[0]!r}: "
                    "say it in `rope_parameters` only."
                )
        if not kinds:
            return super().convert_rope_params_to_dict(**kwargs)
        missing = [kind for kind in self.layer_types if kind not in kinds]
        if missing:
            raise InputError(
                f"{type(self).__name__}: `rope_parameters` are given per layer type but not for '{missing[0]}', which "
                "`layer_types` has: add it, or give one set of parameters for all."
            )
        theta = kwargs.pop("rope_theta", self.default_theta)
        check_rotary(self)
        for kind in kinds:
            given[kind].setdefault("rope_type", "default")
            given[kind].setdefault("rope_theta", theta)
        self.standardize_rope_params()
        return kwargs

    def validate_rope(self):
        """Refuses `rope_parameters` that do not say how to rotate (part of `strict`)."""
        check_rotary(self)
        try:
            super().validate_rope()
        except KeyError as error:
            raise InputError(f"{type(self).__name__}: {error.args[0]}.") from None

    def validate_architecture(self):
        """Refuses combinations that cannot be built (part of `strict`: runs at construction and when saving)."""
        check_stack(self)

    @property
    def _attn_implementation(self):
        return self._attn_implementation_internal

    @_attn_implementation.setter
    def _attn_implementation(self, value: str | dict | None):
        # Only users come through here (models write the internal name when they fall back to a default), so this is
        # where it shows whether somebody chose: if nobody did, a flattened batch may use the backend made for it.
        self._attn_implementation_chosen = value is not None
        PreTrainedConfig._attn_implementation.fset(self, value)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that `from_dict` takes back; attributes that are no fields stay out of it."""
        return only_known(type(self), super().to_dict())
