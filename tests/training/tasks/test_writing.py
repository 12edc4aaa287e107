"""What is read before writing is cut where it may be cut, and a batch writes what each row writes alone."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tests.families import make_config, randomize
from tests.training.tasks.texts import whole_tokens
from trivium.configuration.errors import InputError
from trivium.tokenization.families import FAMILIES
from trivium.training.tasks.examples import Unusable
from trivium.training.tasks.task import IGNORED, Form
from trivium.training.tasks.writing import InstructionFollowing, TextToText

PROMPTS = ["{source}\n", "Translate:{source}", "a {source} = ", "{source}", "<|im_start|>{source}\nxx: "]
SOURCES = [
    "x",
    "naïve café " * 30,
    "雪" * 90,
    "🙂👩‍👩‍👧‍👦 " * 20,
    "the statement raises import " * 4000,
    "a" * 500,
    " b\n\n c " * 90,
]


def make_task(kind, task=TextToText, **form):
    return task(kind[1], kind[0], Form(**{"max_length": 48, "max_target_length": 16} | form))


def make_model(task):
    special = {f"{name}_token_id": getattr(task.tokenizer, f"{name}_token_id") for name in ("pad", "eos", "bos")}
    auto = {"decoder": AutoModelForCausalLM, "encoder-decoder": AutoModelForSeq2SeqLM}[task.family]
    if task.family == "encoder-decoder":
        special["decoder_start_token_id"] = special["pad_token_id"]
    model = auto.from_config(make_config(task.family.replace("-", "_"), vocab_size=len(task.tokenizer), **special))
    randomize(model, seed=3)
    return model.eval()


@pytest.fixture(params=[("decoder", one) for one in ("bpe", "wordpiece", "unigram")], ids="-".join)
def decoder(request, every_tokenizer):
    return "decoder", every_tokenizer[request.param]


@pytest.fixture(params=[("encoder-decoder", one) for one in ("bpe", "wordpiece", "unigram")], ids="-".join)
def encoder_decoder(request, every_tokenizer):
    return "encoder-decoder", every_tokenizer[request.param]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source[:6])
def test_a_prompt_is_whole_around_a_source_that_is_cut(decoder, monkeypatch, prompt, source):
    task = make_task(decoder, prompt=prompt)
    read = []
    monkeypatch.setattr(task, "_read", lambda source, read_it=task._read: read.append(source) or read_it(source))
    ids = task.prompt({"source": source})
    before, after = prompt.split("{source}")
    assert source.startswith(read[-1])
    assert ids == [task.tokenizer.bos_token_id, *whole_tokens(task.tokenizer, before + read[-1] + after)[0]]
    assert len(ids) <= 32
    if read[-1] != source:
        assert len(ids) > 32 - 8  # no more is cut than has to be, but for what a word is made of


def test_short_sources_are_read_as_they_are(decoder):
    task = make_task(decoder, prompt="a {source} =")
    assert task.prompt({"source": "the x"}) == task.tokenizer("a the x =")["input_ids"]


@pytest.mark.parametrize("target", ["x", "statement " * 50, "雪" * 30_000])
@pytest.mark.parametrize("source", ["x", "naïve " * 90])
def test_nothing_is_too_long_and_every_target_ends(kind, source, target):
    if kind[0] == "encoder":
        return
    task = make_task(kind)
    row = {"source": source, "target": target}
    (feature,) = task.encode([row])
    labels = [label for label in feature["labels"] if label != IGNORED]
    expected = whole_tokens(task.tokenizer, target[:2000])[0]
    assert labels == [*expected[:15], task.tokenizer.eos_token_id] and len(labels) <= 16
    assert len(feature["input_ids"]) == len(feature["attention_mask"]) <= 48
    if kind[0] == "decoder":
        prompt = task.prompt(row)
        assert feature["input_ids"] == prompt + labels and feature["labels"] == [IGNORED] * len(prompt) + labels
    else:
        assert feature["labels"] == labels
        assert feature["input_ids"] == task.tokenizer(source, truncation=True, max_length=48)["input_ids"]
    assert task.items(task.collate(task.encode([row, row]))) == 2 * len(labels)


SAID = [{"role": "user", "content": "the statement"}, {"role": "assistant", "content": "x " * 40}]


def test_the_end_of_a_long_conversation_is_read(decoder):
    task = make_task(decoder, InstructionFollowing)
    whole = task.tokenizer.apply_chat_template(SAID[:1] * 9, add_generation_prompt=True, return_dict=False)
    row = {"messages": [*SAID[:1] * 9, SAID[1]]}
    task.check(row)
    assert task.prompt(row) == whole[-32:]
    assert task.prompt({"messages": SAID[:1] * 9}) == whole[-32:]  # with nothing to learn
    (feature,) = task.encode([row])
    assert len(feature["input_ids"]) == 48 and feature["labels"][-1] == task.tokenizer.eos_token_id


@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("kind_of_task", ["decoder", "chat", "encoder-decoder"])
def test_a_batch_writes_what_each_row_writes_alone(tokenizers, monkeypatch, kind_of_task, num_beams):
    family = "decoder" if kind_of_task == "chat" else kind_of_task
    task_class = InstructionFollowing if kind_of_task == "chat" else TextToText
    task = make_task((family, tokenizers[family]), task_class, num_beams=num_beams, max_target_length=8)
    model = make_model(task)
    texts = ["x", "the statement of an object", "naïve " * 60, "true or", "raises a value 3"]
    rows = [{"source": text, "messages": [{"role": "user", "content": text}]} for text in texts]
    alone = task.predict(model, rows, 1)
    assert any(answer["text"] for answer in alone)
    for side in ("left", "right"):
        monkeypatch.setattr(task.tokenizer, "padding_side", side)
        for size in (2, 5):
            assert task.predict(model, rows, size) == alone
    assert task.predict(model, [], 2) == []


@torch.no_grad()
def test_what_is_written_greedily_is_the_likeliest_token_after_the_other(tokenizers):
    task = make_task(("decoder", tokenizers["decoder"]), max_target_length=6)
    model = make_model(task)
    for source in ("x", "the statement"):
        ids = task.prompt({"source": source})
        written = []
        while len(written) < 6 and written[-1:] != [task.tokenizer.eos_token_id]:
            written.append(model(torch.tensor([ids + written])).logits[0, -1].argmax().item())
        (answer,) = task.predict(model, [{"source": source}], 1)
        assert answer["text"] == task.tokenizer.decode(written, skip_special_tokens=True).strip()


@pytest.mark.parametrize(
    "task, family, form, sentence",
    [
        (TextToText, "decoder", {"prompt": "x"}, "`prompt` must hold {source} once, where the text goes, not 'x'."),
        (
            TextToText,
            "decoder",
            {"prompt": "{source} {source}"},
            "`prompt` must hold {source} once, where the text goes, not '{source} {source}'.",
        ),
        (
            TextToText,
            "decoder",
            {"max_target_length": 48},
            "`max_target_length` 48 leaves no room for a prompt in the 48 tokens that a decoder reads: lower it, or "
            "raise max_length.",
        ),
        (
            TextToText,
            "decoder",
            {"prompt": "@" * 40 + "{source}"},
            "`prompt` has 40 tokens, and a text to write may have 16 of the 48 that a decoder reads: shorten it, "
            "lower max_target_length, or raise max_length.",
        ),
        (
            TextToText,
            "encoder",
            {},
            "this task has no head for the family encoder: take one of encoder-decoder, decoder.",
        ),
        (
            InstructionFollowing,
            "encoder-decoder",
            {},
            "this task has no head for the family encoder-decoder: take one of decoder.",
        ),
    ],
)
def test_settings_that_leave_no_room_are_told(tokenizers, task, family, form, sentence):
    with pytest.raises(InputError) as caught:
        make_task((family, tokenizers[family]), task, **form)
    assert str(caught.value) == sentence


def test_a_tokenizer_without_what_writing_needs_is_told(tokenizers):
    kind = "decoder", copy.deepcopy(tokenizers["decoder"])
    kind[1].chat_template = None
    with pytest.raises(
        InputError, match=r"^instruction-following needs a chat template, .*: put a chat_template\.jinja"
    ):
        make_task(kind, InstructionFollowing)
    kind[1].eos_token = None
    with pytest.raises(
        InputError, match=r"^writing needs an end-of-sequence token, which this tokenizer does not have"
    ):
        make_task(kind)


@pytest.mark.parametrize(
    "task, row, reason",
    [
        (TextToText, {"source": "", "target": "x"}, "the source is empty"),
        (TextToText, {"source": "x", "target": 3}, "the target is 3, no text"),
        (InstructionFollowing, {"messages": None}, "`messages` holds no list of `role` and `content`"),
        (
            InstructionFollowing,
            {"messages": [{"role": 3, "content": "a"}]},
            "`messages` holds no list of `role` and `content`",
        ),
        (InstructionFollowing, {"messages": []}, "`messages` has nothing before what the assistant says"),
        (InstructionFollowing, {"messages": SAID[1:]}, "`messages` has nothing before what the assistant says"),
        (InstructionFollowing, {"messages": SAID[:1]}, "the last message is not the assistant's, or empty"),
        (
            InstructionFollowing,
            {"messages": [*SAID[:1], SAID[1] | {"content": " "}]},
            "the last message is not the assistant's, or empty",
        ),
    ],
)
def test_what_cannot_be_used_is_told(tokenizers, monkeypatch, task, row, reason):
    monkeypatch.setattr(tokenizers["decoder"], "chat_template", FAMILIES["decoder"].chat_template)
    with pytest.raises(Unusable) as caught:
        make_task(("decoder", tokenizers["decoder"]), task).check(row)
    assert caught.value.reason == reason
