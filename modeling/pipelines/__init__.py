"""Pipelines for encoder-decoders and for question answering heads, of this package or of transformers."""

from ...configuration.pipelines import TASKS
from .question_answering import QuestionAnsweringPipeline
from .text_to_text import SummarizationPipeline, TextToTextPipeline, TranslationPipeline

_CLASSES = (QuestionAnsweringPipeline, SummarizationPipeline, TextToTextPipeline, TranslationPipeline)
_BY_NAME = {pipeline.__name__: pipeline for pipeline in _CLASSES}
# The class and the Auto class of each task; the face registers them.
PIPELINES = {name: (_BY_NAME[task.pipeline], task.auto_class) for name, task in TASKS.items()}

__all__ = ["PIPELINES", *sorted(_BY_NAME)]
