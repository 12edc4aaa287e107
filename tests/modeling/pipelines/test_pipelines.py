"""Every pipeline, stock or ours, gives for every family what the model itself gives, with and without the package."""

import json
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

import trivium
from tests.modeling.pipelines.checkpoints import CASES, FAMILIES, LABELS, NAMES, make_checkpoint
from trivium.modeling.pipelines import PIPELINES

STOCK = [(name, case) for name, case in zip(NAMES, CASES, strict=True) if case[0] not in PIPELINES]


@pytest.fixture(scope="module")
def checkpoint(tokenizers, tmp_path_factory):
    """The folder of a family's head, and its model."""
    made = {}

    def make(family, head):
        if (family, head) not in made:
            folder = str(tmp_path_factory.mktemp("checkpoints") / f"{family}-{head}")
            made[family, head] = folder, make_checkpoint(folder, family, head, tokenizers[family, "bpe"])
        return made[family, head]

    return make


def read(model, tokenizer, *texts):
    return model(**tokenizer(*texts, return_tensors="pt"))[0][0]


def fill_mask(model, tokenizer, text, top_k):
    ids = tokenizer(text)["input_ids"]
    scores = read(model, tokenizer, text)[ids.index(tokenizer.mask_token_id)].softmax(-1)
    best = sorted(range(len(scores)), key=lambda token: -scores[token])[:top_k]
    return [{"token": token, "score": scores[token].item()} for token in best]


def generate_text(model, tokenizer, text, max_new_tokens, do_sample):
    chat = not isinstance(text, str)
    ids = tokenizer.apply_chat_template(text, add_generation_prompt=True, return_dict=True) if chat else tokenizer(text)
    ids, written = list(ids["input_ids"]), []
    while len(written) < max_new_tokens and tokenizer.eos_token_id not in written:
        written.append(model(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax().item())
    words = tokenizer.decode(written, skip_special_tokens=True)
    return [{"generated_text": [*text, {"role": "assistant", "content": words}] if chat else text + words}]


def classify_text(model, tokenizer, text, top_k):
    scores = read(model, tokenizer, text).softmax(-1).tolist()
    return sorted(({"label": LABELS[i], "score": score} for i, score in enumerate(scores)), key=lambda x: -x["score"])


def classify_zero_shot(model, tokenizer, text, candidate_labels):
    entails = torch.stack([read(model, tokenizer, text, f"This example is {name}.")[2] for name in candidate_labels])
    ranked = sorted(zip(entails.softmax(0).tolist(), candidate_labels, strict=True), reverse=True)
    return {"labels": [name for _, name in ranked], "scores": [score for score, _ in ranked]}


def classify_tokens(model, tokenizer, text, aggregation_strategy, ignore_labels):
    encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    tokens = zip(
        read(model, tokenizer, text).softmax(-1), encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True
    )
    found = [
        {"entity": LABELS[scores.argmax().item()], "score": scores.max().item(), "start": place[0], "end": place[1]}
        for scores, place, special in tokens
        if not special
    ]
    if aggregation_strategy == "none":
        return found
    groups = [list(group) for _, group in groupby(found, key=lambda token: token["entity"])]
    return [
        {
            "entity_group": group[0]["entity"],
            "score": sum(token["score"] for token in group) / len(group),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }
        for group in groups
    ]


def extract_features(model, tokenizer, text):
    return [read(model, tokenizer, text).tolist()]


DIRECT = {
    "fill-mask": fill_mask,
    "text-generation": generate_text,
    "text-classification": classify_text,
    "zero-shot-classification": classify_zero_shot,
    "token-classification": classify_tokens,
    "feature-extraction": extract_features,
}


def agree(found, expected):
    """What is expected is found, numbers to rounding; where less is expected, as many features or keys of it."""
    if isinstance(expected, dict):
        return all(agree(found[name], value) for name, value in expected.items())
    if isinstance(expected, list):
        return len(found) >= len(expected) and all(map(agree, found, expected))
    if isinstance(expected, float):
        return found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    return found == expected


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("case", [case for _, case in STOCK], ids=[name for name, _ in STOCK])
def test_stock_pipelines_give_what_the_model_gives(case, batch_size, checkpoint):
    task, family, head, inputs, arguments = case
    folder, model = checkpoint(family, head)
    expected = [DIRECT[task](model, AutoTokenizer.from_pretrained(folder), text, **arguments) for text in inputs]
    found = pipeline(task, model=folder)(inputs, batch_size=batch_size, **arguments)
    assert len(found) == len(expected) and agree(found, expected)
    lengths = [(len(a), len(b)) for a, b in zip(found, expected, strict=True) if isinstance(a, list)]
    assert all(a == b for a, b in lengths) or task == "feature-extraction"


SOME = [
    case for case in CASES if case[:2] in (("extractive-question-answering", "decoder"), ("text-to-text", FAMILIES[2]))
]


@pytest.mark.parametrize("cases", [SOME, pytest.param(CASES, marks=pytest.mark.slow)], ids=["some", "all"])
def test_without_the_package_the_same_comes_out(cases, checkpoint, tmp_path):
    jobs = [
        (task, checkpoint(family, head)[0], inputs, {**arguments, "batch_size": 2})
        for task, family, head, inputs, arguments in cases
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("elsewhere.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(script), str(tmp_path / "jobs.json")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout.splitlines()[-1])
    for job, found in zip(jobs, results, strict=True):
        task, folder, inputs, arguments = job
        for place in (folder, folder + "-again"):  # what was saved from there is used here
            expected = json.loads(json.dumps(pipeline(task, model=place)(inputs, **arguments), default=float))
            assert agree(found, expected) and agree(expected, found), (task, place)
        assert Path(folder + "-again", "modeling_trivium.py").is_file()


def test_nobody_is_asked_to_trust_what_is_installed(checkpoint):
    folder, _ = checkpoint("encoder", "answer")
    saved = json.loads(Path(folder, "config.json").read_text())
    assert saved["custom_pipelines"]["extractive-question-answering"]["impl"].startswith("modeling_trivium.")
    for trust in (None, False, True):
        pipe = pipeline("extractive-question-answering", model=folder, trust_remote_code=trust)
        assert type(pipe) is PIPELINES["extractive-question-answering"][0]
        assert type(pipe.model) is trivium.TriviumEncoderForQuestionAnswering


def test_a_checkpoint_names_the_pipelines_of_its_own_head_and_keeps_those_of_others(checkpoint, tmp_path):
    expected = {("encoder", "lm"): set(), ("decoder", "answer"): {"extractive-question-answering"}}
    expected["encoder_decoder", "lm"] = {"text-to-text", "text-summarization", "text-translation"}
    for (family, head), names in expected.items():
        fields = json.loads(Path(checkpoint(family, head)[0], "config.json").read_text())
        assert fields.get("custom_pipelines", {}).keys() == names
    config = AutoConfig.from_pretrained(checkpoint("decoder", "answer")[0])
    config.custom_pipelines = {"theirs": {"impl": "file.Theirs", "pt": ["AutoModel"]}}
    config.save_pretrained(tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())["custom_pipelines"]
    assert kept.keys() == {"theirs", "extractive-question-answering"}
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.custom_pipelines == config.custom_pipelines
    assert {**again.to_dict(), "_name_or_path": ""} == {**config.to_dict(), "_name_or_path": ""}


def test_registering_twice_changes_nothing_and_shadows_nobody(monkeypatch, caplog):
    before = dict(PIPELINE_REGISTRY.supported_tasks)
    trivium.register()
    assert PIPELINE_REGISTRY.supported_tasks == before and PIPELINES.keys() <= before.keys()
    theirs = {**before, "text-to-text": {"impl": "transformers.pipelines.text_to_text.Theirs", "pt": ()}}
    monkeypatch.setattr(PIPELINE_REGISTRY, "supported_tasks", dict(theirs))
    trivium.register()
    assert PIPELINE_REGISTRY.supported_tasks == theirs and not caplog.records
