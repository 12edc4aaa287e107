"""How a model computes: one block, three families, their heads."""

from ..configuration import TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig
from .decoder import (
    TriviumDecoderForCausalLM,
    TriviumDecoderForQuestionAnswering,
    TriviumDecoderForSequenceClassification,
    TriviumDecoderForTokenClassification,
    TriviumDecoderModel,
)
from .encoder import (
    TriviumEncoderForMaskedLM,
    TriviumEncoderForMultipleChoice,
    TriviumEncoderForNextSentencePrediction,
    TriviumEncoderForPreTraining,
    TriviumEncoderForQuestionAnswering,
    TriviumEncoderForSequenceClassification,
    TriviumEncoderForTokenClassification,
    TriviumEncoderModel,
)
from .encoder_decoder import (
    TriviumEncoderDecoderForConditionalGeneration,
    TriviumEncoderDecoderForQuestionAnswering,
    TriviumEncoderDecoderForSequenceClassification,
    TriviumEncoderDecoderForTokenClassification,
    TriviumEncoderDecoderModel,
)

MODEL_CLASSES = (
    TriviumDecoderForCausalLM,
    TriviumDecoderForQuestionAnswering,
    TriviumDecoderForSequenceClassification,
    TriviumDecoderForTokenClassification,
    TriviumDecoderModel,
    TriviumEncoderForMaskedLM,
    TriviumEncoderForMultipleChoice,
    TriviumEncoderForNextSentencePrediction,
    TriviumEncoderForPreTraining,
    TriviumEncoderForQuestionAnswering,
    TriviumEncoderForSequenceClassification,
    TriviumEncoderForTokenClassification,
    TriviumEncoderModel,
    TriviumEncoderDecoderForConditionalGeneration,
    TriviumEncoderDecoderForQuestionAnswering,
    TriviumEncoderDecoderForSequenceClassification,
    TriviumEncoderDecoderForTokenClassification,
    TriviumEncoderDecoderModel,
)
# Which classes each Auto class of transformers stands for; the face registers them, one per configuration class.
_BY_NAME = {model.__name__: model for model in MODEL_CLASSES}
_FAMILIES = (TriviumEncoderConfig, TriviumDecoderConfig, TriviumEncoderDecoderConfig)
AUTO_CLASSES = {
    auto: tuple(_BY_NAME[config.auto_classes[auto]] for config in _FAMILIES if auto in config.auto_classes)
    for auto in dict.fromkeys(auto for config in _FAMILIES for auto in config.auto_classes)
}

__all__ = ["AUTO_CLASSES", "MODEL_CLASSES", *(model.__name__ for model in MODEL_CLASSES)]
