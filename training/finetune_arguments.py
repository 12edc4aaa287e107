"""What `trivium finetune` takes."""

import dataclasses
from typing import Any, Literal

from ..configuration.errors import InputError
from .arguments import RunArguments, mapping, setting
from .overriding import changes_answers
from .tasks.task import Form

NESTED = ("columns", "config_overrides", "lora_config")  # fields that are mappings


@dataclasses.dataclass(kw_only=True)
class FinetuneArguments:
    """What to fine-tune, for which task, on which examples; how to train is in [`FinetuneTrainingArguments`].

    Raises:
        InputError: a field that is no mapping, or a number that cannot be.
    """

    _argument_group_name = "task, data and model"

    task: str = dataclasses.field(
        metadata={
            "help": "text-classification, multi-label-classification, regression, token-classification, "
            "question-answering, multiple-choice, text-embedding, text-to-text (translation, summaries) or "
            "instruction-following"
        }
    )
    model: str | None = setting(None, "checkpoint of Trivium: a folder, or a name on the Hub")
    data: list[str] = dataclasses.field(
        metadata={
            "help": "a folder with train, validation and test files (.jsonl .json .csv .tsv .parquet), files to train "
            "on, or a Hub dataset"
        }
    )
    validation_data: list[str] | None = setting(None, "files to measure on while training, and to choose the best by")
    test_data: list[str] | None = setting(None, "files to measure on at the end")
    data_config: str | None = setting(None, "configuration of the Hub dataset")
    columns: dict[str, Any] | str | None = setting(
        None, "names of the columns, where they are not the task's own: --columns.text sentence"
    )
    held_out_fraction: float = setting(0.1, "share of the examples to measure on, where there is no validation split")
    max_train_examples: int | None = setting(
        None, "train on so many examples only, drawn by the seed; 0 measures the model as it is"
    )
    max_eval_examples: int | None = setting(None, "measure on so many examples of a split only, always the same")
    skip_bad: bool = setting(False, "leave out examples that cannot be used, and count them")

    max_length: int | None = setting(None, "tokens of a text, or of a window of one; by default what the model reads")
    stride: int = setting(64, "token-classification, question-answering: tokens that two windows share")
    pieces: Literal["first", "all"] = setting("first", "token-classification: which pieces of a word learn its label")
    max_target_length: int = setting(128, "tokens of a text that is written")
    max_answer_length: int | None = setting(
        None,
        "question-answering: tokens of an answer; by default of the longest to train on, or 30 if those are shorter",
    )
    prompt: str = setting("{source}\n", "text-to-text: what a decoder reads before it writes")
    num_beams: int = setting(1, "beams that a text to write is searched with")
    pooling: str | None = setting(None, "text-embedding: mean, first or last; by default mean, of a decoder last")
    temperature: float = setting(0.05, "text-embedding: what similarities are divided by")

    packing: bool = setting(
        False,
        "lay the texts of a batch end to end instead of padding them, where they are trained on, measured and "
        "classified; it changes no answer. multiple-choice reads rows and cannot; texts and answers to questions are "
        "searched for in padded batches either way",
    )

    lora: bool = setting(False, "train an adapter of PEFT (LoRA) and the new head instead of all weights")
    lora_config: dict[str, Any] | str | None = setting(
        None, "fields of peft.LoraConfig: --lora_config.r 8 --lora_config.use_dora true"
    )
    merge: bool = setting(True, "lora: leave a whole model with the adapter merged; false leaves the adapter alone")
    from_scratch: bool = setting(False, "keep the model's shape and tokenizer, but begin with random weights")

    config_overrides: dict[str, Any] | str | None = setting(
        None, "other values for fields of the model's configuration: --config_overrides.attention_dropout 0"
    )

    def __post_init__(self) -> None:
        self.columns = mapping("columns", self.columns, "the task's columns to those of the data")
        self.lora_config = mapping("lora_config", self.lora_config, "fields of peft.LoraConfig to values")
        self.config_overrides = mapping("config_overrides", self.config_overrides, "fields of the model to values")
        self.lora |= bool(self.lora_config)
        if self.lora and not self.merge and changes_answers(self.config_overrides or {}):
            raise InputError(
                "an adapter alone does not keep `config_overrides`: leave `merge` out, or override dropout."
            )
        if not 0 < self.held_out_fraction < 1:
            raise InputError(f"`held_out_fraction` must lie between 0 and 1, not {self.held_out_fraction}.")
        counts = ("max_train_examples", "max_eval_examples", "num_beams")
        for name in ("max_length", "max_target_length", "max_answer_length", *counts):
            bound = 0 if name == "max_train_examples" else 1
            if (value := getattr(self, name)) is not None and value < bound:
                raise InputError(f"`{name}` must be at least {bound}, not {value}.")

    @property
    def form(self) -> Form:
        """How texts are made into what a model reads, and answers."""
        return Form(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Form)})


@dataclasses.dataclass
class FinetuneTrainingArguments(RunArguments):
    """[`RunArguments`] with defaults for fine-tuning."""

    _argument_group_name = "training (transformers.TrainingArguments)"

    output_dir: str | None = setting("out/finetune", "folder for the best model at the end and checkpoints in between")
    num_train_epochs: float = setting(3.0, "passes over the examples")
    learning_rate: float = setting(1e-4, "the highest learning rate")
    head_learning_rate: float | None = setting(
        None, "the same of a head that pretraining knows nothing of: fifty times as high learns many rare labels sooner"
    )
    lr_scheduler_type: str = setting("linear", "how the learning rate falls: linear, cosine, ...")
    warmup_steps: float = setting(0.1, "steps of linear warmup; below 1, a share of all steps")
    weight_decay: float = setting(0.01, "of everything but norms, biases and embeddings")
    per_device_train_batch_size: int = setting(16, "examples that a device reads at once")
    per_device_eval_batch_size: int = setting(32, "the same when measuring, which it does not change")
    spike_threshold: float | None = setting(
        None, "leave out a step whose loss lies so many deviations above the last 128"
    )
    eval_strategy: str = setting("epoch", "when to measure: epoch, steps (eval_steps), no")
    save_strategy: str = setting("epoch", "when to save: epoch, steps (save_steps), no")
    save_total_limit: int | None = setting(1, "how many of the checkpoints in between to keep, the best apart")
    load_best_model_at_end: bool = setting(True, "end with the best of the models that were measured")
    early_stopping_patience: int | None = setting(None, "end after so many measurements in a row without a better one")
    logging_steps: float = setting(50, "log every so many steps; below 1, a share of all steps")

    def __post_init__(self) -> None:
        if self.head_learning_rate is not None and (self.muon or not self.head_learning_rate > 0):
            raise InputError(
                "`head_learning_rate` is that of AdamW: leave `muon` out."
                if self.muon
                else f"`head_learning_rate` must be above 0, not {self.head_learning_rate}."
            )
        self.asked_metric = self.metric_for_best_model  # what follows makes it the loss where nobody asked
        super().__post_init__()
