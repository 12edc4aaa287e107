"""Where in a text the answer to a question stands (Rajpurkar et al., 2016; 2018)."""

from collections.abc import Sequence
from typing import Any

import torch

from ...modeling.pipelines.question_answering import QuestionAnsweringPipeline, trim
from .examples import Unusable
from .metrics import measure
from .task import Row, Task, text_in


class QuestionAnswering(Task):
    """`question`, `context` and `answers`, as SQuAD has them: texts, and the characters where they begin; or none.

    A long context is read in windows, of which those without the answer point at the first special token, as does a
    question that the context does not answer (Devlin et al., 2019).
    """

    reads = {"question": "the question", "context": "the text that may answer it"}
    targets = {"answers": "its answers: `text` and `answer_start`, a list each"}
    heads = dict.fromkeys(("encoder", "decoder", "encoder-decoder"), "AutoModelForQuestionAnswering")
    best = "f1"

    def check(self, row: Row) -> None:
        """Raises `Unusable` for a text that is empty, or an answer that is not where it is said to be."""
        text_in(row, "question", "question")
        context = text_in(row, "context", "context")
        answers = row["answers"]
        if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
            raise Unusable("`answers` has no `text` and `answer_start`", "give a list of each, empty for no answer")
        if len(answers["text"]) != len(answers["answer_start"]):
            raise Unusable("`answers` has not as many places as texts", "give one for each")
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            if not text or context[start : start + len(text)] != text or start < 0:
                raise Unusable(f"the answer {text!r} is not at character {start} of the context", "mend `answer_start`")

    def pipe(self, model: Any) -> QuestionAnsweringPipeline:
        """What answers, and cuts contexts into windows."""
        return QuestionAnsweringPipeline(model=model, tokenizer=self.tokenizer)

    def settings(self) -> dict[str, Any]:
        """How the pipeline reads."""
        return {"max_seq_len": self.max_length, "doc_stride": min(self.form.stride, self.max_length // 4)}

    def encode(self, rows: Sequence[Row]) -> list[Row]:
        """The windows of rows; see [`windows`]."""
        return [window for row in rows for window in self.windows(row)]

    def windows(self, row: Row) -> list[Row]:
        """The windows of one row, each with the tokens that the first answer starts and ends at."""
        settings = self.settings()
        encoded = self.tokenizer(
            row["question"],
            row["context"],
            truncation="only_second",
            max_length=settings["max_seq_len"],
            stride=settings["doc_stride"],
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        names = [name for name in self.tokenizer.model_input_names if name in encoded]
        features = []
        for number, ids in enumerate(encoded["input_ids"]):
            null = ids.index(self.tokenizer.cls_token_id) if self.tokenizer.cls_token_id in ids else 0
            sides = zip(encoded["offset_mapping"][number], encoded.sequence_ids(number), strict=True)
            places = [trim(row["context"], *place) if side == 1 else (0, 0) for place, side in sides]
            first, last = find_span(places, row["answers"]) or (null, null)
            window = {name: encoded[name][number] for name in names}
            features.append({**window, "start_positions": first, "end_positions": last})
        return features

    def items(self, batch: dict[str, torch.Tensor]) -> int:
        """Each window has one loss."""
        return len(batch["start_positions"])

    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """`answer`, "" if there is none, with `start`, `end` and `score`."""
        questions = [{"question": row["question"], "context": row["context"]} for row in rows]
        return self.pipe(model)(questions, batch_size=batch_size, handle_impossible_answer=True, **self.settings())

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Exact match and F1 of words."""
        found = [prediction["answer"] for prediction in predictions]
        return measure(("squad",), found, [list(row["answers"]["text"]) for row in rows])


def find_span(places: Sequence[tuple[int, int]], answers: dict[str, list]) -> tuple[int, int] | None:
    """The tokens that the first of the answers begins and ends in, or `None` if there is none, or not all of it here.

    Args:
        places: the characters of each token, from and to; (0, 0) for those that stand for none.
        answers: `text` and `answer_start`.
    """
    if not answers["text"]:
        return None
    start = answers["answer_start"][0]
    stop = start + len(answers["text"][0])
    holds_first = (number for number, (begin, end) in enumerate(places) if begin <= start < end)
    holds_last = (number for number, (begin, end) in enumerate(places) if begin < stop <= end)
    first, last = next(holds_first, None), next(holds_last, None)
    return None if first is None or last is None else (first, last)
