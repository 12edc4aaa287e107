"""Answers stand where they are said to stand, in whatever window, and no window is taught half of one."""

import copy
import time
import unicodedata

import datasets
import numpy as np
import pytest
import torch

from tests.families import CONFIGS, TINY
from tests.training.tasks.texts import PLAIN, SCRIPTS, WORDS, random_words, whole_tokens
from trivium.modeling import TriviumEncoderForQuestionAnswering
from trivium.training.tasks.answering import QuestionAnswering, find_span, with_marks
from trivium.training.tasks.examples import Examples, Unusable
from trivium.training.tasks.task import Form
from trivium.training.tasks.windows import cut

LAYOUTS = [(16, 0), (24, 6), (64, 64), (512, 64)]
CLEAN = [word for word in PLAIN + SCRIPTS if word not in ("[MASK]", "<|eos|>")]


def make_task(kind, **form):
    family, tokenizer = kind
    return QuestionAnswering(tokenizer, family, Form(**form))


def make_row(context, start=0, stop=0, question="x"):
    answers = {"text": [context[start:stop]], "answer_start": [start]} if stop else {"text": [], "answer_start": []}
    return {"question": question, "context": context, "answers": answers}


def random_rows(seed, words, count=20):
    """Contexts with an answer of one to four words anywhere, also at either end."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        chosen = random_words(generator, 30, words)
        first = [0, 27][number] if number < 2 else int(generator.integers(0, 27))
        last = [3, 30][number] if number < 2 else first + int(generator.integers(1, 4))
        start = len(" ".join(chosen[:first])) + bool(first)
        yield make_row(" ".join(chosen), start, start + len(" ".join(chosen[first:last])))


def slow_tokens(tokenizer, row):
    """The numbers of the tokens that stand for a character of the answer that is no space."""
    start = row["answers"]["answer_start"][0]
    inside = range(start, start + len(row["answers"]["text"][0]))
    return [
        number
        for number, (begin, end) in enumerate(whole_tokens(tokenizer, row["context"])[1])
        if any(place in inside and not row["context"][place].isspace() for place in range(begin, end))
    ]


@pytest.mark.parametrize("max_length, stride", LAYOUTS)
def test_windows_point_at_the_very_characters_or_at_no_answer(kind, max_length, stride):
    task = make_task(kind, max_length=max_length, stride=stride)
    has_normalizer = task.tokenizer.backend_tokenizer.normalizer is not None
    for row in random_rows(max_length, CLEAN):
        task.check(row)
        (answer,), context = row["answers"]["text"], row["context"]
        windows = cut(task.tokenizer, "x", context, max_length=max_length, stride=task.stride)
        tokens = slow_tokens(task.tokenizer, row)
        found = 0
        for feature, numbers in zip(task.windows(row), windows.numbers, strict=True):
            first, last = feature["start_positions"], feature["end_positions"]
            if {*tokens} <= {*numbers.tolist()}:
                found += 1
                assert (numbers[first], numbers[last]) == (tokens[0], tokens[-1])
                characters = windows.places[numbers[first]][0], windows.places[numbers[last]][1]
                learnt = context[slice(*characters)].strip()
                # What a normalizer merges into the character before, or drops, is of no token.
                dropped = {unicodedata.category(one)[0] for one in answer.removeprefix(learnt)}
                assert answer.startswith(learnt) and dropped <= ({"M", "C"} if has_normalizer else set())
            else:
                assert first == last and numbers[first] == -1
                null = task.tokenizer.cls_token_id
                assert first == 0 and (null is None or feature["input_ids"][first] == null)
        assert found or tokens[-1] - tokens[0] > task.stride


def test_spans_of_awkward_texts_are_those_found_character_by_character(kind):
    for row in random_rows(5, WORDS, 60):
        _, places = whole_tokens(kind[1], row["context"])
        tokens = slow_tokens(kind[1], row)
        span = find_span(row["context"], np.array(places), row["answers"])
        assert span == ((tokens[0], tokens[-1]) if tokens else None)


@pytest.mark.parametrize(
    "start, stop, answer", [(0, 3, "the"), (3, 10, "value"), (10, 23, "of the object"), (2, 12, 0)]
)
def test_spaces_around_an_answer_are_not_of_it(kind, start, stop, answer):
    context = "the  value of the object"
    stop += answer == "of the object"
    _, places = whole_tokens(kind[1], context)
    first, last = find_span(context, np.array(places), make_row(context, start, stop)["answers"])
    begin, end = places[first][0], places[last][1]
    if answer:
        assert context[begin:end].strip() == answer
    else:  # begins and ends within words: their tokens
        assert begin <= 2 and end >= 12 and context[begin:end].strip() in context


def test_of_answers_that_repeat_the_one_that_is_meant_is_learnt(kind):
    context = "yes or yes or yes"
    _, places = whole_tokens(kind[1], context)
    for start in (0, 7, 14):
        first, last = find_span(context, np.array(places), make_row(context, start, start + 3)["answers"])
        assert (places[first][0], places[last][1]) in ((start, start + 3), (start - 1, start + 3))


def test_windows_are_those_of_the_pipeline_that_answers(kind):
    tokenizer = kind[1]
    task = make_task(kind, max_length=24, stride=5)
    model = TriviumEncoderForQuestionAnswering(CONFIGS["encoder"](**TINY | {"vocab_size": len(tokenizer)}))
    for row in random_rows(3, CLEAN, 5):
        read = list(task.pipe(model).preprocess(row, **task.settings()))
        learnt = task.windows(row)
        assert [window["input_ids"][0].tolist() for window in read] == [window["input_ids"] for window in learnt]
        nothing = task.windows(row | {"answers": {"text": [], "answer_start": []}})
        assert [int(window["is_null"][0].argmax()) for window in read] == [
            window["start_positions"] for window in nothing
        ]


class Oracle(TriviumEncoderForQuestionAnswering):
    """Points where the windows that it knows are taught to point."""

    def __init__(self, config, features):
        super().__init__(config)
        self.known = {tuple(one["input_ids"]): (one["start_positions"], one["end_positions"]) for one in features}

    def forward(self, input_ids, attention_mask, **_):
        logits = torch.zeros(2, *input_ids.shape)
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask.bool(), strict=True)):
            for side, place in enumerate(self.known[tuple(ids[mask].tolist())]):
                logits[side, row, place] = 9.0 + 9.0 * (place > 0)  # a window that has the answer is surer
        return type("Output", (), {"start_logits": logits[0], "end_logits": logits[1]})


@pytest.mark.parametrize("max_length, stride", LAYOUTS[1:])
def test_a_model_that_knows_the_answers_gets_them_all_right(every_tokenizer, max_length, stride):
    for algorithm in ("bpe", "wordpiece", "unigram", "uncased"):
        task = make_task(("encoder", every_tokenizer["encoder", algorithm]), max_length=max_length, stride=stride)
        words = [f"{word}{number}" for number in range(9) for word in ("the", "café", "value")]
        rows = list(random_rows(7, words, 5))
        short = [row for row in rows if len(slow_tokens(task.tokenizer, row)) <= min(task.stride + 1, 30)]
        config = CONFIGS["encoder"](**TINY | {"vocab_size": len(task.tokenizer), "max_position_embeddings": 512})
        model = Oracle(config, task.encode(short))
        for size in (1, 4):
            answers = task.predict(model, short, size)
            assert [answer["answer"] for answer in answers] == [row["answers"]["text"][0] for row in short]
        assert not short or task.measure(answers, short)["f1"] in (1.0, 100.0)


def test_windows_may_be_longer_than_the_rows_of_pretraining(tokenizers):
    tokenizer = copy.deepcopy(tokenizers["encoder"])
    tokenizer.model_max_length = 16
    task = make_task(("encoder", tokenizer), max_length=64)
    rows = list(random_rows(3, ["the", "value", "object"], 3))
    config = CONFIGS["encoder"](**TINY | {"vocab_size": len(tokenizer), "max_position_embeddings": 512})
    answers = task.predict(Oracle(config, task.encode(rows)), rows, 2)
    assert [answer["answer"] for answer in answers] == [row["answers"]["text"][0] for row in rows]
    assert tokenizer.model_max_length == 64  # for the pipeline of who loads it


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_enormous_contexts_take_time_in_proportion(every_tokenizer, algorithm):
    task = make_task(("encoder", every_tokenizer["encoder", algorithm]), max_length=128)

    def seconds(characters):
        text = (" ".join(CLEAN) + " ") * (characters // 100)
        row = make_row(text[:characters], characters - 3, characters - 1)
        begun = time.process_time()
        task.windows(row)
        return time.process_time() - begun

    seconds(1000)
    few, many = min(seconds(12_000) for _ in range(2)), seconds(96_000)
    assert many < 5 * 8 * few + 0.5


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"question": " "}, "the question is empty"),
        ({"context": None}, "the context is empty"),
        ({"answers": None}, "`answers` has no `text` and `answer_start`"),
        ({"answers": {"text": "the", "answer_start": 0}}, "`answers` has no `text` and `answer_start`"),
        ({"answers": {"text": ["the"], "answer_start": []}}, "`answers` has 1 texts but 0 places"),
        ({"answers": {"text": [" "], "answer_start": [3]}}, "the answer is ' ', no text"),
        ({"answers": {"text": [None], "answer_start": [3]}}, "the answer is None, no text"),
        ({"answers": {"text": ["the"], "answer_start": [1]}}, "the answer 'the' is not at character 1 of the context"),
        (
            {"answers": {"text": ["the"], "answer_start": [-9]}},
            "the answer 'the' is not at character -9 of the context",
        ),
        ({"answers": {"text": ["ue"], "answer_start": [99]}}, "the answer 'ue' is not at character 99 of the context"),
        (
            {"answers": {"text": ["the"], "answer_start": [None]}},
            "the answer 'the' is not at character None of the context",
        ),
    ],
)
def test_what_cannot_be_used_is_told(tokenizers, change, reason):
    with pytest.raises(Unusable) as caught:
        make_task(("encoder", tokenizers["encoder"])).check(make_row("the value") | change)
    assert caught.value.reason == reason and caught.value.way_out


@pytest.mark.parametrize("length", [40, 100_000])
def test_a_question_that_leaves_no_room_for_the_context_is_told(kind, length):
    task = make_task(kind, max_length=32, stride=8)
    with pytest.raises(
        Unusable, match=r"^the question has \d+ tokens or more, and beside the context there is room for "
    ):
        task.check(make_row("the value", question="raises " * length))


def test_the_longest_question_that_passes_leaves_room(kind):
    task = make_task(kind, max_length=32, stride=8)
    for count in range(30, 0, -1):
        row = make_row("the value " * 20, 0, 3, question="raises " * count)
        try:
            task.check(row)
        except Unusable:
            continue
        assert len(task.windows(row)) > 1
        return
    raise AssertionError("no question passes")


def test_no_rows_have_no_answers(tokenizers):
    task = make_task(("encoder", tokenizers["encoder"]))
    model = TriviumEncoderForQuestionAnswering(CONFIGS["encoder"](**TINY | {"vocab_size": len(task.tokenizer)}))
    assert task.predict(model, [], 3) == []


def learnt(task, *texts):
    rows = [{"text": [text], "answer_start": [0]} for text in texts] + [{"text": [], "answer_start": []}, None]
    task.learn(Examples(datasets.Dataset.from_dict({"answers": rows}), "data"))
    return task


@pytest.mark.parametrize("words, length", [(1, 30), (29, 30), (45, 46), (400, 64)])
def test_answers_are_looked_for_that_are_as_long_as_the_longest_to_train_on(tokenizers, words, length):
    kind = ("encoder", tokenizers["encoder"])
    word = " the" if len(kind[1](" the the", add_special_tokens=False)["input_ids"]) == 2 else "x "
    task = learnt(make_task(kind, max_length=64), "x", word * words)
    assert task.form.max_answer_length == length
    assert learnt(make_task(kind, max_answer_length=5), word * words).form.max_answer_length == 5


def test_a_long_answer_is_found_and_marks_at_its_end_are_of_it(every_tokenizer):
    for algorithm in ("wordpiece", "unigram", "uncased"):
        context = "value " + "name " * 40 + "cafe\u0301 e\u0301te\u0301 object"
        row = make_row(context, 6, context.index(" object"))
        task = make_task(("encoder", every_tokenizer["encoder", algorithm]), max_length=256)
        learnt(task, *row["answers"]["text"])
        config = CONFIGS["encoder"](**TINY | {"vocab_size": len(task.tokenizer), "max_position_embeddings": 512})
        (answer,) = task.predict(Oracle(config, task.encode([row])), [row], 2)
        assert answer["answer"] == row["answers"]["text"][0]
        assert context[answer["start"] : answer["end"]] == answer["answer"]


@pytest.mark.parametrize(
    "context, start, end, answer",
    [
        ("e\u0301 x", 0, 1, "e\u0301"),
        ("हिन्दी", 0, 1, "हि"),
        ("ab", 0, 1, "a"),
        ("\u0301ab", 0, 0, ""),
        ("e\u0301", 0, 1, "e\u0301"),
    ],
)
def test_only_marks_that_follow_an_answer_are_added(context, start, end, answer):
    assert with_marks(context, {"start": start, "end": end, "answer": "", "score": 1.0})["answer"] == answer
