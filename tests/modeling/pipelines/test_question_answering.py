"""Question answering gives what a slow look at all windows and all spans gives, and characters that are there."""

import copy
import math

import pytest
import torch
import transformers
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast, pipeline

from tests.families import HEADS, randomize
from tests.modeling.pipelines.conftest import UNICODE
from trivium.modeling.pipelines import QuestionAnsweringPipeline
from trivium.tokenization.families import special_token_ids

TASK = "extractive-question-answering"
QUESTION = "What is naïve?"
CONTEXT = f"  {UNICODE} The assignment statement binds names to objects. " * 3
SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
SIDES = dict(d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4)
# Configurations of transformers, which works on stock models with these pipelines as on ours.
STOCK = {
    "bert": ("encoder", lambda **ids: transformers.BertConfig(**SMALL, max_position_embeddings=128, **ids)),
    "gpt2": ("decoder", lambda **ids: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **ids)),
    "bart": ("encoder_decoder", lambda **ids: transformers.BartConfig(**SIDES, max_position_embeddings=128, **ids)),
    "t5": ("encoder_decoder", lambda **ids: transformers.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, **ids)),
}
MODELS = ["encoder", "decoder", "encoder_decoder", *STOCK]


def make_model(name, tokenizer):
    """A random model with a question answering head: one of ours by its family, or one of transformers."""
    ids = {"vocab_size": len(tokenizer), **special_token_ids(tokenizer)}
    if name in STOCK:
        ids = {key: value for key, value in ids.items() if key not in ("cls_token_id", "sep_token_id", "mask_token_id")}
        model = transformers.AutoModelForQuestionAnswering.from_config(STOCK[name][1](**ids))
    else:
        (head,) = [head for head in HEADS if (head.family, head.task) == (name, "answer")]
        model = head.model(head.model.config_class(**SMALL, max_position_embeddings=128, **ids))
    randomize(model)
    return model.eval()


def make_pipe(name, tokenizers, algorithm="bpe", **arguments):
    tokenizer = tokenizers[STOCK.get(name, (name,))[0], algorithm]
    return pipeline(TASK, model=make_model(name, tokenizer), tokenizer=tokenizer, device="cpu", **arguments)


@torch.no_grad()
def slowly(model, tokenizer, size, overlap, longest=30, impossible=False):
    """Probability of every place in the context, best first, by looking at each window and each span in turn."""
    whole = tokenizer(QUESTION, CONTEXT, return_offsets_mapping=True, verbose=False)
    offsets = whole.pop("offset_mapping")
    own = [place for place, side in enumerate(whole.sequence_ids(0)) if side == 1]
    around = len(offsets) - len(own)
    best, none = {}, math.inf
    for first in range(0, len(own), size - around - overlap):
        chosen = [*range(own[0]), *own[first : first + size - around], *range(own[-1] + 1, len(offsets))]
        output = model(**{name: torch.tensor([[values[i] for i in chosen]]) for name, values in whole.items()})
        starts, stops = output.start_logits[0].tolist(), output.end_logits[0].tolist()
        none = min(none, starts[0] + stops[0])
        for i, one in enumerate(chosen):
            for j, other in enumerate(chosen[i : i + longest], i):
                if one in own and other in own:
                    words = [CONTEXT[slice(*offsets[place])] for place in (one, other)]
                    if all(word.strip() for word in words):
                        start = offsets[one][0] + len(words[0]) - len(words[0].lstrip())
                        end = offsets[other][1] - len(words[1]) + len(words[1].rstrip())
                        best[start, end] = max(best.get((start, end), -math.inf), starts[i] + stops[j])
        if chosen[-1 - (len(offsets) - own[-1] - 1)] == own[-1]:
            break
    if impossible:
        best[0, 0] = none
    total = sum(map(math.exp, best.values()))
    return sorted(((math.exp(logit) / total, *place) for place, logit in best.items()), reverse=True)


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize("name", MODELS)
def test_all_windows_and_all_spans_are_looked_at(name, algorithm, tokenizers):
    pipe = make_pipe(name, tokenizers, algorithm)
    example = {"question": QUESTION, "context": CONTEXT}
    for size, overlap, longest, impossible, batch_size in [(64, 16, 30, False, 1), (50, 0, 4, True, 3)]:
        expected = slowly(pipe.model, pipe.tokenizer, size, overlap, longest, impossible)
        how = {"max_seq_len": size, "doc_stride": overlap, "max_answer_len": longest, "batch_size": batch_size}
        found = pipe(example, **how, handle_impossible_answer=impossible, top_k=10**6)
        assert len(found) == len(expected) > 100 and sum(a["score"] for a in found) == pytest.approx(1, abs=1e-4)
        for answer, (score, start, end) in zip(found[:20], expected[:20], strict=True):
            assert answer["score"] == pytest.approx(score, rel=1e-3)
            assert (answer["start"], answer["end"]) == (start, end) or score == pytest.approx(answer["score"], rel=1e-3)
        assert (found[0]["start"], found[0]["end"]) == expected[0][1:]
        assert {(a["start"], a["end"]) for a in found} == {(start, end) for _, start, end in expected}
        assert all(a["answer"] == CONTEXT[a["start"] : a["end"]] for a in found)
        assert any(a["answer"] == "" for a in found) == impossible
        assert pipe(example, **how, handle_impossible_answer=impossible) == found[0]


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize(
    "target", ["Ünïcödé", "naïve", "cafe\u0301s", "真っ白な雪", "👩‍👩‍👧", "🇫🇷 and\n\n हिन्दी", "don't", "tabs;"]
)
def test_offsets_are_those_of_the_characters(target, algorithm, tokenizers, monkeypatch):
    """A model that points at the tokens of a phrase gets the phrase, whatever its tokens are."""
    pipe = make_pipe("encoder", tokenizers, algorithm)
    begin = CONTEXT.index(target)
    encoded = pipe.tokenizer(QUESTION, CONTEXT, return_offsets_mapping=True, verbose=False)
    inside = [
        place
        for place, (side, (a, b)) in enumerate(zip(encoded.sequence_ids(0), encoded["offset_mapping"], strict=True))
        if side == 1 and a < begin + len(target) and b > begin and CONTEXT[a:b].strip()
    ]

    def point(model_inputs):
        logits = torch.zeros(2, *model_inputs["input_ids"].shape)
        logits[0, :, inside[0]] = logits[1, :, inside[-1]] = 50
        return {"starts": logits[0], "stops": logits[1], **{k: v for k, v in model_inputs.items() if k != "input_ids"}}

    monkeypatch.setattr(pipe, "_forward", point)
    pipe.tokenizer.model_max_length = pipe.model.config.max_position_embeddings = 4096
    try:
        answer = pipe(question=QUESTION, context=CONTEXT, max_seq_len=1024, max_answer_len=100)
    finally:
        pipe.tokenizer.model_max_length = 128
    assert target in answer["answer"] == CONTEXT[answer["start"] : answer["end"]] == answer["answer"].strip()
    covered = [encoded["offset_mapping"][place] for place in inside]
    assert answer["answer"] == CONTEXT[covered[0][0] : covered[-1][1]].strip() and answer["score"] > 0.99


@pytest.mark.parametrize("name", MODELS)
def test_neither_the_batch_nor_the_padding_side_matters(name, tokenizers):
    pipe = make_pipe(name, tokenizers)
    left = copy.deepcopy(pipe.tokenizer)
    left.padding_side = "left"
    contexts = [CONTEXT, "Short.", CONTEXT[:90]]
    expected = [pipe(question=QUESTION, context=context, max_seq_len=60, doc_stride=10) for context in contexts]
    for tokenizer in (pipe.tokenizer, left):
        batched = pipeline(TASK, model=pipe.model, tokenizer=tokenizer, batch_size=4, max_seq_len=60, doc_stride=10)
        found = batched(question=QUESTION, context=contexts)
        for answer, alone in zip(found, expected, strict=True):
            assert answer == {**alone, "score": pytest.approx(alone["score"], rel=1e-3)}
    assert left.padding_side == "left"


def test_every_way_to_ask_gives_the_same(tokenizers):
    pipe = make_pipe("encoder", tokenizers, handle_impossible_answer=True)
    row = {"id": "7", "question": QUESTION, "context": CONTEXT, "answers": []}
    answer = pipe(question=QUESTION, context=CONTEXT)
    assert pipe(row) == answer and pipe([row, row]) == [answer] * 2 == list(pipe(row for _ in range(2)))
    assert pipe(question=[QUESTION] * 2, context=CONTEXT) == pipe((row, row)) == [answer] * 2
    assert pipe(question=[QUESTION], context=[CONTEXT]) == [answer] == pipe(question=QUESTION, context=[CONTEXT])
    assert pipe([]) == [] and pipe(row, top_k=2)[0] == answer and len(pipe(row, top_k=2)) == 2


def test_answers_can_be_whole_words(tokenizers):
    pipe = make_pipe("encoder", tokenizers)
    answers = pipe(question=QUESTION, context=CONTEXT, top_k=10**6, align_to_words=True)
    assert len({(a["start"], a["end"]) for a in answers}) == len(answers) > 100
    for answer in answers:
        start, end = answer["start"], answer["end"]
        for a, b in ((CONTEXT[start - 1], CONTEXT[start]), (CONTEXT[end - 1], CONTEXT[end])):
            assert not (a.isalnum() and b.isalnum()) and b != "\u0301"
    assert any(answer["answer"] == "cafe\u0301s" for answer in answers)


def test_the_null_answer_wins_only_where_every_window_believes_in_it(tokenizers):
    pipe = make_pipe("encoder", tokenizers, handle_impossible_answer=True, max_seq_len=60)
    with torch.no_grad():
        pipe.model.qa_outputs.weight.zero_()
    assert pipe(question=QUESTION, context=CONTEXT)["score"] < 0.01  # all spans are equal
    pipe.model.qa_outputs.forward = lambda states: (
        50.0 * torch.eye(states.shape[1])[:, :1].expand_as(states[0, :, :2])[None]
    )
    answer = pipe(question=QUESTION, context=CONTEXT)
    assert answer == {"score": pytest.approx(1), "start": 0, "end": 0, "answer": ""}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"question": "", "context": "x"}, "question must be a text that is not empty, not ''"),
        ({"question": "x", "context": " \n"}, "context must be a text that is not empty"),
        ({"question": "x", "context": None}, "needs both"),
        ({"inputs": {"question": "x"}}, "a `question` and a `context`"),
        ({"inputs": "x"}, "a `question` and a `context`"),
        ({"inputs": {"question": 3, "context": "x"}}, "question must be a text that is not empty, not 3"),
        ({"inputs": {"question": "x", "context": "y"}, "question": "x"}, "not both ways"),
        ({"question": ["x", "y"], "context": ["z"]}, "2 questions but 1 contexts"),
        ({"question": "x", "context": "y", "top_k": 0}, "top_k must be at least 1, not 0"),
        ({"question": "x", "context": "y", "max_answer_len": 0}, "max_answer_len must be at least 1"),
        ({"question": "x", "context": "y", "max_seq_len": 500}, "max_seq_len is 500, but the model reads at most 128"),
        ({"question": "x " * 100, "context": "y", "max_seq_len": 60}, "no room for the context in a window of 60"),
        ({"question": "x", "context": "y", "max_seq_len": 30, "doc_stride": 40}, "less than the .* not 40"),
        ({"question": "x", "context": "y", "doc_stride": -1}, "at least 0"),
    ],
)
def test_bad_input_is_told_in_a_sentence(arguments, said, tokenizers):
    pipe = make_pipe("encoder", tokenizers, "wordpiece")
    inputs = arguments.pop("inputs", None)
    with pytest.raises(ValueError, match=said) as error:
        pipe(inputs, **arguments)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_context_of_which_the_tokenizer_keeps_nothing_is_refused(tokenizers):
    pipe = make_pipe("encoder", tokenizers, "wordpiece")
    pipe.tokenizer = copy.deepcopy(pipe.tokenizer)
    pipe.tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer()  # drops control characters
    with pytest.raises(ValueError, match="finds nothing to read in the context"):
        pipe(question="x", context="\u0007")
    assert pipe(question="x", context="\u0007", handle_impossible_answer=True)["answer"] == ""


def test_a_model_without_the_head_and_a_slow_tokenizer_are_refused(tokenizers):
    tokenizer = tokenizers["encoder", "bpe"]
    (head,) = [head for head in HEADS if (head.family, head.task) == ("encoder", "lm")]
    model = head.model(head.model.config_class(**SMALL, vocab_size=len(tokenizer)))
    with pytest.raises(ValueError, match="TriviumEncoderForMaskedLM has no question answering head"):
        pipeline(TASK, model=model, tokenizer=tokenizer)(question="x", context="y")

    class Slow(PreTrainedTokenizerFast):
        is_fast = False

    for slow, said in ((Slow(tokenizer_object=tokenizer.backend_tokenizer), "got Slow"), (None, "got none")):
        with pytest.raises(ValueError, match=said):
            QuestionAnsweringPipeline(model=model, tokenizer=slow)


def test_a_stock_model_takes_the_pipeline_with_it(tokenizers, tmp_path):
    pipe = make_pipe("bert", tokenizers)
    pipe.save_pretrained(tmp_path)
    theirs = pipeline(TASK, model=str(tmp_path), trust_remote_code=True)
    assert type(theirs).__module__.startswith("transformers_modules.") and type(theirs) is not type(pipe)
    question = {"question": QUESTION, "context": CONTEXT}
    assert theirs(question, max_seq_len=50) == pipe(question, max_seq_len=50)
