"""How a model computes: one block, three families, their heads."""

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

# Which classes each Auto class of transformers stands for; the face registers them, one per configuration class.
AUTO_CLASSES = {
    "AutoModel": (TriviumEncoderModel, TriviumDecoderModel, TriviumEncoderDecoderModel),
    "AutoModelForPreTraining": (
        TriviumEncoderForPreTraining,
        TriviumDecoderForCausalLM,
        TriviumEncoderDecoderForConditionalGeneration,
    ),
    "AutoModelForMaskedLM": (TriviumEncoderForMaskedLM,),
    "AutoModelForCausalLM": (TriviumDecoderForCausalLM,),
    "AutoModelForSeq2SeqLM": (TriviumEncoderDecoderForConditionalGeneration,),
    "AutoModelForSequenceClassification": (
        TriviumEncoderForSequenceClassification,
        TriviumDecoderForSequenceClassification,
        TriviumEncoderDecoderForSequenceClassification,
    ),
    "AutoModelForTokenClassification": (
        TriviumEncoderForTokenClassification,
        TriviumDecoderForTokenClassification,
        TriviumEncoderDecoderForTokenClassification,
    ),
    "AutoModelForQuestionAnswering": (
        TriviumEncoderForQuestionAnswering,
        TriviumDecoderForQuestionAnswering,
        TriviumEncoderDecoderForQuestionAnswering,
    ),
    "AutoModelForMultipleChoice": (TriviumEncoderForMultipleChoice,),
    "AutoModelForNextSentencePrediction": (TriviumEncoderForNextSentencePrediction,),
}
MODEL_CLASSES = tuple(dict.fromkeys(model for models in AUTO_CLASSES.values() for model in models))

__all__ = ["AUTO_CLASSES", "MODEL_CLASSES", *(model.__name__ for model in MODEL_CLASSES)]
