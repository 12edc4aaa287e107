"""The three configurations that users name: encoder, decoder, encoder-decoder."""

from typing import Any, ClassVar, Literal

from transformers.configuration_utils import PreTrainedConfig

from .base import INHERITED_ARGUMENTS, TriviumConfig, only_known, trivium_config
from .bundle import SelfContainedConfig
from .errors import InputError
from .validation import check_attention


@trivium_config
class TriviumEncoderConfig(TriviumConfig):
    r"""An encoder: every token sees every other (BERT, Devlin et al., 2019; ModernBERT, Warner et al., 2024).

    Beside the fields of [`TriviumConfig`]:
        pooler: a dense layer with tanh on the first token, as in BERT.
        classifier_pooling: what a sentence is to the classification heads: its first real token (`cls`) or the `mean`.
        cls_token_id, sep_token_id, mask_token_id: ids in the vocabulary.
    """

    model_type = "trivium_encoder"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoModel": "TriviumEncoderModel",
        "AutoModelForPreTraining": "TriviumEncoderForPreTraining",
        "AutoModelForMaskedLM": "TriviumEncoderForMaskedLM",
        "AutoModelForSequenceClassification": "TriviumEncoderForSequenceClassification",
        "AutoModelForTokenClassification": "TriviumEncoderForTokenClassification",
        "AutoModelForQuestionAnswering": "TriviumEncoderForQuestionAnswering",
        "AutoModelForMultipleChoice": "TriviumEncoderForMultipleChoice",
        "AutoModelForNextSentencePrediction": "TriviumEncoderForNextSentencePrediction",
    }

    hidden_act: str = "gelu"
    pooler: bool = False
    classifier_pooling: Literal["cls", "mean"] = "cls"
    cls_token_id: int | None = None
    sep_token_id: int | None = None
    mask_token_id: int | None = None


@trivium_config
class TriviumDecoderConfig(TriviumConfig):
    r"""A decoder: every token sees those before it (GPT, Radford et al., 2018; Llama, Touvron et al., 2023).

    Beside the fields of [`TriviumConfig`]:
        use_cache: keep the keys and values of what was read, for generation.
        add_cross_attention: blocks also attend to `encoder_hidden_states`.
        cross_attention_hidden_size: width of those states; `None` = hidden_size.
    """

    model_type = "trivium_decoder"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoModel": "TriviumDecoderModel",
        "AutoModelForPreTraining": "TriviumDecoderForCausalLM",
        "AutoModelForCausalLM": "TriviumDecoderForCausalLM",
        "AutoModelForSequenceClassification": "TriviumDecoderForSequenceClassification",
        "AutoModelForTokenClassification": "TriviumDecoderForTokenClassification",
        "AutoModelForQuestionAnswering": "TriviumDecoderForQuestionAnswering",
    }
    base_model_tp_plan = TriviumConfig.base_model_tp_plan | {
        name.replace("self_attn", "cross_attn"): how for name, how in TriviumConfig.base_model_tp_plan.items()
    }

    use_cache: bool = True
    add_cross_attention: bool = False
    cross_attention_hidden_size: int | None = None


STACK_FIELDS = frozenset(TriviumConfig.__dataclass_fields__) - frozenset(PreTrainedConfig.__dataclass_fields__)
STACK_FIELDS -= {"origin"}  # of the whole
# What a stack understands beside its fields: older names of parts of `rope_parameters`.
STACK_ARGUMENTS = frozenset({"rope_theta", "rope_scaling", "partial_rotary_factor"})


@trivium_config
class TriviumEncoderDecoderConfig(SelfContainedConfig):
    r"""An encoder and a decoder that attends to it (2017; T5, Raffel et al., 2020; BART, Lewis et al., 2020).

    Args:
        encoder, decoder: a configuration, or a dictionary of its fields.
        share_embeddings: one embedding for both sides.
        tie_word_embeddings: the output matrix is the decoder's embedding.
        use_cache: keep the keys and values of what was read, for generation.
        decoder_start_token_id: what the decoder reads first; `None` = pad_token_id (T5's habit).
        pad_token_id, bos_token_id, eos_token_id: of both sides; `None` = the decoder's.
        origin: the `model_type` in transformers of the checkpoint that the weights were converted from, if they were.
        A field of a stack given here (`hidden_size=256`) goes to both sides; one inside `encoder` or `decoder` wins.

    Raises:
        InputError: as [`TriviumConfig`], or where the two sides do not fit each other.
    """

    model_type = "trivium_encoder_decoder"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoModel": "TriviumEncoderDecoderModel",
        "AutoModelForPreTraining": "TriviumEncoderDecoderForConditionalGeneration",
        "AutoModelForSeq2SeqLM": "TriviumEncoderDecoderForConditionalGeneration",
        "AutoModelForSequenceClassification": "TriviumEncoderDecoderForSequenceClassification",
        "AutoModelForTokenClassification": "TriviumEncoderDecoderForTokenClassification",
        "AutoModelForQuestionAnswering": "TriviumEncoderDecoderForQuestionAnswering",
    }
    keys_to_ignore_at_inference = ["past_key_values"]
    sub_configs = {"encoder": TriviumEncoderConfig, "decoder": TriviumDecoderConfig}
    base_model_fsdp_plan: ClassVar[dict[str, str]] = {}  # each side brings its own

    encoder: TriviumEncoderConfig | dict[str, Any] | None = None
    decoder: TriviumDecoderConfig | dict[str, Any] | None = None
    is_encoder_decoder: bool = True
    share_embeddings: bool = True
    tie_word_embeddings: bool = True
    use_cache: bool = True
    decoder_start_token_id: int | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    origin: str | None = None

    def __post_init__(self, **kwargs):
        shared = {name: kwargs.pop(name) for name in list(kwargs) if name in STACK_FIELDS | STACK_ARGUMENTS}
        token_ids = {name: getattr(self, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        shared |= {name: token for name, token in token_ids.items() if token is not None}
        self.encoder = _side("encoder", TriviumEncoderConfig, self.encoder, shared)
        self.decoder = _side("decoder", TriviumDecoderConfig, self.decoder, shared | {"add_cross_attention": True})
        for name in token_ids:
            setattr(self, name, getattr(self.decoder, name) if token_ids[name] is None else token_ids[name])
        if self.decoder_start_token_id is None:
            self.decoder_start_token_id = self.pad_token_id
        if self.decoder.cross_attention_hidden_size is None and self.decoder.hidden_size != self.encoder.hidden_size:
            self.decoder.cross_attention_hidden_size = self.encoder.hidden_size
        super().__post_init__(**kwargs)

    @classmethod
    def known_arguments(cls) -> frozenset[str]:
        """Every name that the constructor accepts, those that go to both sides included."""
        return frozenset(cls.__dataclass_fields__) | INHERITED_ARGUMENTS | STACK_FIELDS

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that `from_dict` takes back; attributes that are no fields stay out of it."""
        return only_known(type(self), super().to_dict())

    def validate_architecture(self):
        """Refuses two sides that do not fit each other (part of `strict`)."""
        encoder, decoder = self.encoder, self.decoder
        if not decoder.add_cross_attention:
            raise InputError(
                f"{type(self).__name__}: the decoder must attend to the encoder: add_cross_attention=True."
            )
        for name in ("vocab_size", "hidden_size") if self.share_embeddings else ():
            if getattr(encoder, name) != getattr(decoder, name):
                raise InputError(
                    f"{type(self).__name__}: shared embeddings need one `{name}`, but the encoder has "
                    f"{getattr(encoder, name)} and the decoder {getattr(decoder, name)}: make them equal, or set "
                    "share_embeddings=False."
                )
        for side in (encoder, decoder):
            check_attention(side, self._attn_implementation)
        width = decoder.cross_attention_hidden_size or decoder.hidden_size
        if width != encoder.hidden_size:
            raise InputError(
                f"{type(self).__name__}: the decoder expects states of width {width} but the encoder makes "
                f"{encoder.hidden_size}: leave `cross_attention_hidden_size` out, it follows."
            )
        start = self.decoder_start_token_id
        if start is None or not 0 <= start < decoder.vocab_size:
            raise InputError(
                f"{type(self).__name__}: `decoder_start_token_id` must be a token of the decoder's vocabulary (0 to "
                f"{decoder.vocab_size - 1}), not {start}: it is what the decoder reads first."
            )

    @property
    def vocab_size(self) -> int:
        """Tokens that the decoder can write; setting it sets both sides."""
        return self.decoder.vocab_size

    @vocab_size.setter
    def vocab_size(self, value: int):
        self.encoder.vocab_size = self.decoder.vocab_size = value

    @property
    def hidden_size(self) -> int:
        """Width of the decoder."""
        return self.decoder.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """Depth of the decoder."""
        return self.decoder.num_hidden_layers

    @property
    def num_attention_heads(self) -> int:
        """Query heads of the decoder."""
        return self.decoder.num_attention_heads


def _side(name: str, config_class, given, shared: dict[str, Any]):
    """One side's configuration from what was given for it and the fields that both sides share."""
    if given is None or isinstance(given, dict):
        fields = shared | {key: value for key, value in (given or {}).items() if key != "model_type"}
        return config_class(**fields)
    clash = [field for field in shared if getattr(given, field) != shared[field]]
    if clash:
        raise InputError(
            f"TriviumEncoderDecoderConfig: `{clash[0]}` is {shared[clash[0]]} here but {getattr(given, clash[0])} in "
            f"the `{name}` configuration object: set it in one place."
        )
    return given
