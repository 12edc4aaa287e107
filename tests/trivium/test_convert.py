"""`trivium convert` as its user calls it: what it writes, what it prints, and that an error writes nothing."""

import errno
import os
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.references import REFERENCES, VOCAB
from trivium import cli, modeling
from trivium.configuration.bundle import bundle
from trivium.modeling.conversion import ORIGINS, convert, largest_difference

CHAT = "{% for message in messages %}{{ message.role }} {{ message.content }} {% endfor %}"
SPECIAL = dict(pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]", unk_token="[UNK]", mask_token="[MASK]")
SPECIAL |= dict(cls_token="[CLS]", sep_token="[SEP]")
# Family -> a reference and the class in its checkpoint.
FAMILIES = {
    "encoder": ("bert", "BertForMaskedLM"),
    "decoder": ("llama", "LlamaForCausalLM"),
    "encoder-decoder": ("bart", "BartForConditionalGeneration"),
}
FIRST = {reference.model_type: reference for reference in reversed(REFERENCES.values()) if reference.classes is None}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Words of one letter each for the vocabulary of the references."""
    words = [*SPECIAL.values(), *(chr(ord("0") + number) for number in range(VOCAB - len(SPECIAL)))]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=CHAT, **SPECIAL)


def write(folder: Path, reference: str, name: str, tokenizer=None, **options) -> torch.nn.Module:
    """A checkpoint of transformers with everything that lies beside one."""
    model = REFERENCES[reference].model(name)
    if model.can_generate():
        model.generation_config.update(max_new_tokens=7, repetition_penalty=1.5)
    model.save_pretrained(folder, **options)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return model


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    return {key: tensor for path in folder.glob("*.safetensors") for key, tensor in load_file(path).items()}


def convert_to(capsys, *arguments) -> tuple[int, str, str]:
    """The exit code, and what was printed to the user and to stderr without progress bars."""
    code = cli.main(["convert", *map(str, arguments)])
    captured = capsys.readouterr()
    errors = [line for line in re.split(r"[\n\r]", captured.err) if line and "%|" not in line]
    return code, captured.out, "\n".join(errors)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_becomes_one_of_ours_with_all_that_lies_beside_the_weights(family, tokenizer, tmp_path, capsys):
    reference, name = FAMILIES[family]
    theirs = write(tmp_path / "theirs", reference, name, tokenizer)
    code, out, err = convert_to(capsys, tmp_path / "theirs", tmp_path / "ours")
    assert (code, err) == (0, "")
    ours = type(convert(theirs)[0])
    first, second, last = out.splitlines()
    assert first.startswith(f"{name} ({reference}) -> {ours.__name__}, ") and first.endswith("torch.float32")
    assert second.startswith("outputs on random tokens: ")
    assert last == f"Saved to {tmp_path / 'ours'}."
    expected = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    expected |= {"chat_template.jinja"} | ({"generation_config.json"} if theirs.can_generate() else set())
    assert files_in(tmp_path / "ours").keys() == expected | bundle(ours.config_class).keys()
    loaded = ours.from_pretrained(tmp_path / "ours")
    assert largest_difference(theirs, loaded) < 1e-5
    again = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert again("5 6 A [EOS] b")["input_ids"] == tokenizer("5 6 A [EOS] b")["input_ids"]
    messages = [dict(role="a", content="b c")]
    assert again.apply_chat_template(messages, tokenize=False) == "a b c "
    if theirs.can_generate():
        assert GenerationConfig.from_pretrained(tmp_path / "ours").max_new_tokens == 7
    if family == "encoder":
        assert loaded.config.mask_token_id == tokenizer.mask_token_id


@pytest.mark.parametrize("model_type", ORIGINS)
def test_there_and_back_is_bit_for_bit(model_type, tokenizer, tmp_path, capsys):
    reference = FIRST[model_type]
    name = list(ORIGINS[model_type].heads)[1]
    write(tmp_path / "theirs", reference.name, name, tokenizer)
    assert convert_to(capsys, tmp_path / "theirs", tmp_path / "ours")[0] == 0
    code, out, err = convert_to(capsys, tmp_path / "ours", tmp_path / "back", "--to", "transformers")
    assert (code, err) == (0, "")
    assert f" -> {name}, " in out
    expected, found = tensors_in(tmp_path / "theirs"), tensors_in(tmp_path / "back")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    assert type(AutoConfig.from_pretrained(tmp_path / "back")).model_type == model_type
    again = AutoTokenizer.from_pretrained(tmp_path / "back")
    assert again("5 6 A")["input_ids"] == tokenizer("5 6 A")["input_ids"]
    assert again.chat_template == CHAT


@pytest.mark.parametrize("to", ["trivium", "transformers"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_card_says_where_it_came_from_and_its_code_runs(family, to, tokenizer, tmp_path, capsys):
    write(tmp_path / "theirs", *FAMILIES[family], tokenizer)
    (tmp_path / "theirs" / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    source, target = tmp_path / "theirs", tmp_path / "ours"
    assert convert_to(capsys, source, target)[0] == 0
    if to == "transformers":
        source, target = target, tmp_path / "back"
        assert convert_to(capsys, source, target, "--to", to)[0] == 0
    card = ModelCard.load(target / "README.md")
    assert card.data.license == "mit"
    assert card.data.library_name == "transformers"
    assert (card.data.tags or []) == (["trivium"] if to == "trivium" else [])
    assert card.data.base_model is None  # which has to be a name on the Hub
    assert f"`{source}`" in card.content
    (code,) = re.findall(r"```python\n(.*?)```", card.content, re.DOTALL)
    made: dict = {}
    exec(code.replace("path/to/this/folder", str(target)), made)
    assert type(made["model"]).__name__ in card.content
    assert f"{made['model'].num_parameters():,} parameters" in card.content


def test_a_head_is_chosen_and_what_is_new_is_said(tokenizer, tmp_path, capsys):
    write(tmp_path / "theirs", "bert", "BertForMaskedLM", tokenizer)
    arguments = (tmp_path / "theirs", tmp_path / "ours", "--head", "sequence-classification")
    code, out, err = convert_to(capsys, *arguments)
    assert (code, err) == (0, "")
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 2
    assert "new, drawn at random, to be trained: bert.pooler.dense.bias, bert.pooler.dense.weight, class" in notes[0]
    assert "left out, since the model has no place for it: cls.predictions.bias" in notes[1]
    card = (tmp_path / "ours" / "README.md").read_text()
    assert all(note.removeprefix("note: ") in card for note in notes)
    loaded = modeling.TriviumEncoderForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert loaded.config.architectures == ["TriviumEncoderForSequenceClassification"]


@pytest.mark.parametrize(
    ("reference", "name", "dtype"),
    [
        ("llama", "LlamaForCausalLM", "float32"),
        ("llama", "LlamaForCausalLM", "bfloat16"),
        ("llama", "LlamaForCausalLM", "float16"),
        ("gemma2", "Gemma2ForCausalLM", "bfloat16"),  # its scale of the embeddings is rounded
        ("t5-v1.1", "T5ForConditionalGeneration", "float16"),  # a part of it stays in float32
    ],
)
def test_weights_are_written_in_the_dtype_asked_for(reference, name, dtype, tokenizer, tmp_path, capsys):
    theirs = write(tmp_path / "theirs", reference, name, tokenizer)
    code, out, _ = convert_to(capsys, tmp_path / "theirs", tmp_path / "ours", "--dtype", dtype)
    assert code == 0 and f"torch.{dtype}" in out.splitlines()[0]
    wanted = getattr(torch, dtype)
    expected = convert(theirs)[0].to(wanted).state_dict()
    stored = tensors_in(tmp_path / "ours")
    assert all(tensor.dtype == wanted and torch.equal(tensor, expected[key]) for key, tensor in stored.items())
    assert f"parameters in {dtype}" in (tmp_path / "ours" / "README.md").read_text()


@pytest.mark.parametrize("files", [(), ("tokenizer_config.json",), ("tokenizer.json",)], ids=["none", "half", "broken"])
def test_without_a_tokenizer_none_is_made_up(files, tokenizer, tmp_path, capsys):
    write(tmp_path / "theirs", "bert", "BertForMaskedLM")
    for file in files:
        (tmp_path / "theirs" / file).write_text("{")
    code, out, err = convert_to(capsys, tmp_path / "theirs", tmp_path / "ours")
    assert (code, err) == (0, "")
    assert "note: no tokenizer was found beside the weights, or none that loads: bring one before use." in out
    code = bundle(type(AutoConfig.from_pretrained(tmp_path / "ours"))).keys()
    assert files_in(tmp_path / "ours").keys() - code == {"README.md", "config.json", "model.safetensors"}


@pytest.mark.parametrize("text", ["---\nlicense: [\n---\n", "\xff"], ids=["yaml", "encoding"])
def test_a_broken_card_of_the_source_is_no_obstacle(text, tokenizer, tmp_path, capsys):
    write(tmp_path / "theirs", "bert", "BertForMaskedLM", tokenizer)
    (tmp_path / "theirs" / "README.md").write_text(text, encoding="latin-1")
    assert convert_to(capsys, tmp_path / "theirs", tmp_path / "ours")[0] == 0
    assert ModelCard.load(tmp_path / "ours" / "README.md").data.license is None


def test_a_new_conversion_takes_the_place_of_an_old_one_and_leaves_the_rest(tokenizer, tmp_path, capsys):
    write(tmp_path / "theirs", "llama", "LlamaForCausalLM", tokenizer)
    target = tmp_path / "ours"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    (target / "model-00001-of-00002.safetensors").write_bytes(b"older")
    for dtype in ("float32", "bfloat16"):
        assert convert_to(capsys, tmp_path / "theirs", target, "--dtype", dtype)[0] == 0
    assert (target / "notes.txt").read_text() == "mine"
    assert {tensor.dtype for tensor in tensors_in(target).values()} == {torch.bfloat16}


def electra(folder: Path) -> None:
    sizes = dict(embedding_size=24, hidden_size=24, num_hidden_layers=1, num_attention_heads=4, intermediate_size=40)
    transformers.ElectraForMaskedLM(transformers.ElectraConfig(vocab_size=VOCAB, **sizes)).save_pretrained(folder)


def folders(root: Path, tokenizer) -> None:
    """What the errors below are about, by the names that they use."""
    write(root / "bert", "bert", "BertForMaskedLM", tokenizer)
    write(root / "sequence", "bert", "BertForSequenceClassification", tokenizer)
    convert(root / "bert")[0].save_pretrained(root / "ours")
    write(root / "gpt2", "gpt2", "GPT2LMHeadModel")
    electra(root / "electra")
    (root / "file").write_text("text")
    (root / "garbage.gguf").write_bytes(b"GGUF")
    (root / "empty").mkdir()


ERRORS = [
    ("gone new", "'gone' cannot be read by transformers: We couldn't connect to 'https://huggingface.co'"),
    ("./no/folder new", "'./no/folder' does not exist, and it cannot be a name on the Hub."),
    ("empty new", "'empty' cannot be read by transformers: Unrecognized model in empty."),
    ("file new", "'file' is a file: give the folder that it lies in"),
    ("garbage.gguf new", "gguf"),
    ("electra new", "'electra' is no architecture of transformers that can be converted"),
    ("ours new", "'ours' is a checkpoint of Trivium already: to go the other way add --to transformers."),
    ("bert new --to transformers", "'bert' is no checkpoint of Trivium but a bert: leave --to out."),
    ("bert bert", "'bert' would be overwritten: choose another folder to write to."),
    ("ours ../{here}/ours --to transformers", "'ours' would be overwritten: choose another folder to write to."),
    ("bert file", "'file' is a file: choose a folder."),
    ("bert gpt2", "'gpt2' holds a gpt2 checkpoint, not a trivium_encoder"),
    ("ours gpt2 --to transformers", "'gpt2' holds a gpt2 checkpoint, not a bert"),
    ("gpt2 ours", "'ours' holds a trivium_encoder checkpoint, not a trivium_decoder"),
    ("bert new --head causal-lm", "Trivium does not compute a BertLMHeadModel with is_decoder=False."),
    ("bert new --head seq2seq-lm", "a bert has no head 'seq2seq-lm' that Trivium has too."),
    ("ours new --to transformers --head base", "with --to transformers leave it out."),
    ("bert new --model_type roberta", "--model_type chooses what to make of a checkpoint of Trivium"),
    ("ours new --to transformers --model_type gpt2", "transformers has no gpt2 that computes this one"),
]


@pytest.mark.parametrize(("line", "sentence"), ERRORS, ids=[line for line, _ in ERRORS])
def test_an_error_is_one_sentence_and_writes_nothing(line, sentence, tokenizer, tmp_path, capsys, monkeypatch):
    folders(tmp_path, tokenizer)
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    capsys.readouterr()
    code, out, err = convert_to(capsys, *line.format(here=tmp_path.name).split())
    assert (code, out) == (2, "")
    assert err.startswith("trivium: error: ") and sentence in err and "\n" not in err
    assert files_in(tmp_path) == before
    assert not Path("new").exists()


@pytest.mark.parametrize("saver", ["model", "tokenizer", "card"])
@pytest.mark.parametrize("target", ["new", "old"])
def test_a_full_disk_leaves_what_was_there(saver, target, tokenizer, tmp_path, capsys, monkeypatch):
    write(tmp_path / "theirs", "llama", "LlamaForCausalLM", tokenizer)
    folder = tmp_path / target
    if target == "old":
        assert convert_to(capsys, tmp_path / "theirs", folder, "--dtype", "bfloat16")[0] == 0
    before = files_in(tmp_path)
    holder = {"model": modeling.TriviumDecoderForCausalLM, "tokenizer": PreTrainedTokenizerBase, "card": ModelCard}
    method = "save" if saver == "card" else "save_pretrained"
    real = getattr(holder[saver], method)

    def save_a_little(*args, **kwargs):
        real(*args, **kwargs)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")

    monkeypatch.setattr(holder[saver], method, save_a_little)
    code, out, err = convert_to(capsys, tmp_path / "theirs", folder)
    assert (code, out) == (2, "")
    assert (
        err == "trivium: error: no space left on the device for model.safetensors; free some, or write to another one"
    )
    assert files_in(tmp_path) == before


def test_a_model_that_says_something_else_is_not_written(tokenizer, tmp_path, capsys, monkeypatch):
    """Two matrices change places while they are read."""
    write(tmp_path / "theirs", "llama", "LlamaForCausalLM", tokenizer)
    reader = import_module("trivium.modeling.conversion.convert")
    real = reader.read_state

    def read_and_swap(*args, **kwargs):
        state = real(*args, **kwargs)
        first, second = (f"model.layers.0.mlp.{name}_proj.weight" for name in ("gate", "up"))
        return state | {first: state[second], second: state[first]}

    monkeypatch.setattr(reader, "read_state", read_and_swap)
    code, out, err = convert_to(capsys, tmp_path / "theirs", tmp_path / "ours")
    assert (code, out) == (2, "")
    assert re.fullmatch(
        r"trivium: error: LlamaForCausalLM and TriviumDecoderForCausalLM disagree by \d\.\de[-+]\d\d of the largest "
        r"output, more than the 1e-03 that rounding explains: nothing was written\. Please report this checkpoint\.",
        err,
    )
    assert not (tmp_path / "ours").exists()


def test_weights_that_are_no_numbers_are_not_written(tokenizer, tmp_path, capsys):
    """Nothing can be said of them."""
    theirs = REFERENCES["llama"].model("LlamaForCausalLM")
    with torch.no_grad():
        theirs.model.norm.weight[0] = torch.nan
    theirs.save_pretrained(tmp_path / "theirs")
    code, _, err = convert_to(capsys, tmp_path / "theirs", tmp_path / "ours")
    assert code == 2 and "disagree by nan of the largest output" in err
    assert not (tmp_path / "ours").exists()
