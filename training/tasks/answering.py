"""Where in a text the answer to a question stands (Rajpurkar et al., 2016; 2018)."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...modeling.pipelines.question_answering import MAX_ANSWER_LEN, QuestionAnsweringPipeline, trim
from .examples import Examples, Unusable
from .metrics import measure
from .task import Row, Task, beginning, flatten, pad, text_in
from .windows import cut, need_offsets


class QuestionAnswering(Task):
    """`question`, `context` and `answers`, as SQuAD has them: texts, and the characters where they begin; or none.

    A long context is read in windows. Those that do not hold the whole answer point at the first special token, or the
    first token where there is no [CLS], as does a question that the context does not answer (Devlin et al., 2019).
    Where there are several answers, the first is learnt.
    """

    reads = {"question": "the question", "context": "the text that may answer it"}
    targets = {
        "answers": "its answers: `text` and `answer_start`, a list each",
        "id": "what no other example is called",
    }
    optional = frozenset({"id"})
    heads = dict.fromkeys(("encoder", "decoder", "encoder-decoder"), "AutoModelForQuestionAnswering")
    best = "f1"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        need_offsets(self.tokenizer, "question answering")

    def learn(self, examples: Examples) -> None:
        """Finds how many tokens the longest answer has, unless that is said: longer ones are not looked for."""
        if self.form.max_answer_length is None:
            texts = [*_texts(examples.rows["answers"])] or [""]
            longest = max(map(len, self.tokenizer(texts, add_special_tokens=False)["input_ids"]))
            longest += 1  # where the answer begins within a word, that may be cut into pieces in another way
            length = min(max(longest, MAX_ANSWER_LEN), self.max_length)
            self.form = replace(self.form, max_answer_length=length)

    def check_read(self, row: Row) -> None:
        """Raises `Unusable` for a text that is empty, or a question that leaves no room for the context."""
        question = text_in(row, "question", "question")
        text_in(row, "context", "context")
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=True) - self.stride - 1
        begun = beginning(self.tokenizer, question, self.max_length)
        asked = len(self.tokenizer(begun, add_special_tokens=False)["input_ids"])
        if asked > room:
            raise Unusable(
                f"the question has {asked} tokens or more, and beside the context there is room for {room}",
                "shorten it, raise max_length, or lower stride",
            )

    def check_target(self, row: Row) -> None:
        """Raises `Unusable` for an answer that is not where it is said to be."""
        context, answers = row["context"], row["answers"]
        texts, starts = (answers.get(name) if isinstance(answers, dict) else None for name in ("text", "answer_start"))
        if not isinstance(texts, list) or not isinstance(starts, list):
            raise Unusable("`answers` has no `text` and `answer_start`", "give a list of each, empty for no answer")
        if len(texts) != len(starts):
            raise Unusable(f"`answers` has {len(texts)} texts but {len(starts)} places", "give one for each")
        for text, start in zip(texts, starts, strict=True):
            if not isinstance(text, str) or not text.strip():
                raise Unusable(f"the answer is {text!r}, no text", "give no answer by empty lists")
            if (
                isinstance(start, bool)
                or not isinstance(start, int)
                or start < 0
                or not context.startswith(text, start)
            ):
                raise Unusable(
                    f"the answer {text!r} is not at character {start!r} of the context", "mend `answer_start`"
                )

    def pipe(self, model: Any) -> QuestionAnsweringPipeline:
        """What answers, and cuts contexts into windows."""
        return QuestionAnsweringPipeline(model=model, tokenizer=self.tokenizer, device=model.device)

    def settings(self) -> dict[str, Any]:
        """How the pipeline reads."""
        return {"max_seq_len": self.max_length, "doc_stride": self.stride}

    def encode(self, rows: Sequence[Row]) -> list[Row]:
        """The windows of rows; see [`windows`]."""
        return [window for row in rows for window in self.windows(row)]

    def windows(self, row: Row) -> list[Row]:
        """The windows of one row, each with the tokens that the first answer starts and ends at."""
        windows = cut(self.tokenizer, row["question"], row["context"], max_length=self.max_length, stride=self.stride)
        span = find_span(row["context"], windows.places, row["answers"])
        features = []
        for feature, numbers in zip(windows.features, windows.numbers, strict=True):
            ids = feature["input_ids"]
            first = last = ids.index(self.tokenizer.cls_token_id) if self.tokenizer.cls_token_id in ids else 0
            if span and {*span} <= {*numbers.tolist()}:
                first, last = (int(np.flatnonzero(numbers == number)[0]) for number in span)
            features.append({**feature, "start_positions": first, "end_positions": last})
        return features

    def collate(self, features: list[Row]) -> dict[str, torch.Tensor]:
        """A batch of windows; the places of answers are counted from the first column: they are padded after."""
        return flatten(features) if self.form.packing else pad(self.tokenizer, features, "right")

    def items(self, batch: dict[str, torch.Tensor]) -> int:
        """Each window has one loss."""
        return len(batch["start_positions"])

    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """`answer`, "" if there is none, with `start`, `end` and `score`."""
        questions = [{"question": row["question"], "context": row["context"]} for row in rows]
        longest = self.form.max_answer_length or MAX_ANSWER_LEN
        choosing = {"handle_impossible_answer": True, "max_answer_len": longest}
        found = self.pipe(model)(questions, batch_size=batch_size, **choosing, **self.settings())
        return [with_marks(row["context"], answer) for row, answer in zip(rows, found, strict=True)]

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Exact match and F1 of words."""
        found = [prediction["answer"] for prediction in predictions]
        return measure(("squad",), found, [list(row["answers"]["text"]) for row in rows])


def with_marks(context: str, answer: Row) -> Row:
    """An answer with the marks that combine with its last character: a normalizer may take them from its last token."""
    start, end = answer["start"], answer["end"]
    while start < end < len(context) and unicodedata.category(context[end]).startswith("M"):
        end += 1
    return answer | {"end": end, "answer": context[start:end]}


def _texts(column: Sequence[Any]) -> Iterator[str]:
    """The answers that are texts; what else there may be is not looked at yet."""
    for answers in column:
        texts = answers.get("text") if isinstance(answers, dict) else None
        yield from (text for text in texts or [] if isinstance(text, str))


def find_span(context: str, places: np.ndarray, answers: dict[str, list]) -> tuple[int, int] | None:
    """The first and the last token of the first of the answers; `None` if there is none, or no token of it.

    Args:
        places: (N, 2), from which character to which each token stands.
        answers: `text` and `answer_start`.
    """
    if not answers["text"]:
        return None
    start = answers["answer_start"][0]
    stop = start + len(answers["text"][0])
    near = np.flatnonzero((places[:, 0] < stop) & (places[:, 1] > start))
    # A space before a word may be of its token: it is not what the token stands for.
    trimmed = [(number, *trim(context, *places[number].tolist())) for number in near.tolist()]
    within = [number for number, begin, end in trimmed if begin < stop and end > start]
    return (within[0], within[-1]) if within else None
