"""Cards of folders: true to what lies there, run as they stand, never over what a hand has written, never a way in."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.families import HEADS as ALL_HEADS
from tests.families import make_model
from tests.model_cards.folders import COMMAND, HEADS, log, record, save
from trivium import cli
from trivium.configuration import InputError
from trivium.model_cards.card import README, is_by_hand, template_of, write_card
from trivium.model_cards.metadata import check_metadata
from trivium.model_cards.render import template_stamp

ANSWERED = dict(license="apache-2.0", intended_use="To test.\n\n- one\n- two", biases="Not examined.", contact="Ada")
ROOT = Path(__file__).resolve().parents[2]
REMOTE = """
import sys
sys.path.insert(0, {root!r})
from tests.remote import forget_trivium
forget_trivium()
for file in {files!r}:
    exec(open(file).read(), made := dict())
    assert type(made["model"]).__module__.startswith("transformers_modules.")
"""


@pytest.fixture(scope="module", params=list(HEADS))
def trained(request, tmp_path_factory):
    """A finished run's folder, with its card."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    save(folder, request.param, record(request.param), log())
    write_card(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "decoder", "decoder", record(), log())


def text_of(folder):
    return (folder / README).read_text(encoding="utf-8")


def test_the_metadata_says_what_was_recorded_and_is_valid(trained):
    data = ModelCard.load(trained / README).data
    tasks = {"encoder": "fill-mask", "decoder": "text-generation", "encoder-decoder": "text2text-generation"}
    assert data.pipeline_tag == tasks[trained.name]
    assert (data.library_name, data.tags, data.language) == ("transformers", ["trivium"], ["en"])
    assert data.datasets == ["org/texts"] and data.license is None and data.base_model is None
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    assert values == {"bits_per_byte": 2.25, "perplexity": 90.5}
    assert {result.dataset_split for result in data.eval_results} == {"held out"}
    assert all(result.metric_args == {"command": COMMAND} for result in data.eval_results)
    check_metadata(data.to_dict())


def test_the_text_says_what_was_recorded(trained):
    text = text_of(trained)
    for said in ("1,234", "3.3 minutes", "cosine after 5% of the steps", "2 processes", COMMAND):
        assert said in text
    assert "[org/texts](https://huggingface.co/datasets/org/texts)" in text
    assert "10 documents, 2 MB" in text and "cc-by-4.0" in text
    assert "2.9 bits" not in text and "2.900 bits per predicted byte" in text
    assert "which predicted 77 tokens of it (99 bytes)" in text
    assert "*Energy and emissions were not measured.*" in text
    assert f"`{HEADS[trained.name].model.__name__}`" in text
    assert template_of(trained / README) == template_stamp()


def test_parameters_are_those_of_the_model(trained):
    import transformers

    model = getattr(transformers, snippets(trained)[0].partition("from transformers import ")[2].split(",")[0])
    assert f"{model.from_pretrained(trained).num_parameters():,} parameters in float32" in text_of(trained)


def snippets(folder):
    found = re.findall(r"```py(?:thon)?\n(.*?)```", text_of(folder), re.DOTALL)
    assert len(found) == 2
    return [one.replace("path/to/this/folder", str(folder)) for one in found]


def test_the_snippets_run_as_they_stand(trained):
    exec(snippets(trained)[0], made := {})
    assert type(made["model"]).__module__.startswith("trivium.")


def test_the_snippets_run_where_trivium_is_not(tmp_path):
    for family in HEADS:
        write_card(save(tmp_path / family, family, record(family), log()))
        (tmp_path / f"{family}.py").write_text(snippets(tmp_path / family)[1])
    script = REMOTE.format(root=str(ROOT), files=[str(tmp_path / f"{family}.py") for family in HEADS])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "generated_text" in done.stdout and "token_str" in done.stdout


def test_questions_stay_visible_until_they_are_answered_and_answers_are_never_lost(folder):
    first = write_card(folder)
    asked = [clause.partition(":")[0] for clause in first.missing]
    assert asked[:3] == ["license", "data_description", "intended_use"]
    assert "*Not answered: what the model is meant for.*" in text_of(folder)
    second = write_card(folder, given=ANSWERED)
    assert not {clause.partition(":")[0] for clause in second.missing} & ANSWERED.keys()
    third = write_card(folder, given={"contact": "Grace"})
    assert third.missing == second.missing
    text = text_of(folder)
    assert "**Contact.** Grace" in text and "- one\n- two" in text and "`apache-2.0`" in text
    assert "*Not answered: what it does badly.*" in text
    assert ModelCard.load(folder / README).data.license == "apache-2.0"
    (folder / README).unlink()
    write_card(folder)
    assert text_of(folder) == text


def test_refreshing_changes_nothing_that_is_the_same(folder):
    write_card(folder, given=ANSWERED)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write_card(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("change", ["text", "metadata", "theirs", "latin"])
def test_what_a_hand_wrote_is_left_alone_unless_asked(folder, change):
    write_card(folder)
    path = folder / README
    changed = {
        "text": text_of(folder).replace("# decoder", "# My decoder"),
        "metadata": text_of(folder).replace("library_name", "license: mit\nlibrary_name"),
        "theirs": "# A card\n",
        "latin": "\xff",
    }[change]
    path.write_text(changed, encoding="latin-1" if change == "latin" else "utf-8")
    assert is_by_hand(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="by hand") as caught:
        write_card(folder)
    assert path.read_bytes() == before and "--overwrite" in str(caught.value) and "card.yaml" in str(caught.value)
    write_card(folder, overwrite=True)
    assert not is_by_hand(path) and "# decoder" in text_of(folder)


def test_yaml_laid_out_in_another_way_is_no_change_by_hand(folder):
    write_card(folder)
    head, body = text_of(folder).removeprefix("---\n").split("\n---\n", 1)
    head = yaml.safe_dump(yaml.safe_load(head), width=40, sort_keys=True)
    (folder / README).write_text(f"---\n{head}---\n{body}")
    assert not is_by_hand(folder / README)


def test_a_card_is_not_replaced_by_one_that_knows_less(folder):
    write_card(folder)
    before = text_of(folder)
    (folder / "trivium_run.json").unlink()
    with pytest.raises(InputError, match="no record of these weights"):
        write_card(folder)
    assert text_of(folder) == before
    write_card(folder, overwrite=True)
    assert "*Not known: no record of a training run lies beside the weights.*" in text_of(folder)


def test_a_bare_checkpoint_has_a_card_without_anything_made_up(tmp_path):
    card = write_card(save(tmp_path / "model"))
    text = text_of(tmp_path / "model")
    assert "pretrained from" not in text and "Tokens read" not in text and "loss.png" not in text
    assert "*Not measured.*" in text and "how it was trained: no record" in "\n".join(card.missing)
    data = ModelCard.load(card.path).data
    assert data.eval_results is None and data.language is None and data.datasets is None


@pytest.mark.parametrize("head", [head for head in ALL_HEADS if head.task in ("sequence", "tokens")], ids=str)
def test_the_shape_is_that_of_the_sides_that_the_model_has(head, tmp_path):
    make_model(head).save_pretrained(tmp_path)
    write_card(tmp_path)
    (header,) = re.findall(r"^\|(.*)\|\n\|.*\n\| Layers", text_of(tmp_path), re.MULTILINE)
    sides = ["encoder", "decoder"][: 1 + head.has_base] if head.family == "encoder_decoder" else [""]
    assert [cell.strip() for cell in header.split("|")][1:] == sides, header


@pytest.mark.parametrize("files", ["none", "config", "record", "weights"])
def test_what_cannot_be_read_gets_one_sentence(tmp_path, files):
    folder = tmp_path / "model"
    folder.mkdir()
    if files != "none":
        save(folder, recorded={})
        broken = {"config": "config.json", "record": "trivium_run.json", "weights": "model.safetensors"}[files]
        (folder / broken).write_text("{")
    with pytest.raises(InputError) as caught:
        write_card(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert not (folder / README).exists()


def test_a_failed_write_leaves_the_old_card(folder, monkeypatch):
    write_card(folder)
    before = sorted((path.name, path.read_bytes()) for path in folder.iterdir() if path.is_file())

    def full(self, filepath):
        filepath.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ModelCard, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_card(folder, overwrite=True)
    assert sorted((path.name, path.read_bytes()) for path in folder.iterdir() if path.is_file()) == before


def test_an_evaluation_beside_the_weights_is_reported_while_it_is_of_these_weights(folder):
    rows = [{"data": "wiki.txt", "documents": 3, "loss": 2.0, "perplexity": 7.4, "bits_per_byte": 1.5}]
    found = {
        "settings": {"model": "out", "objective": "causal"},
        "rows": rows,
        "total": {},
        "date": "2026-11-22T11:00:00+00:00",
    }
    (folder / "evaluation.json").write_text(json.dumps(found | {"command": "trivium evaluate --model out"}))
    write_card(folder)
    results = ModelCard.load(folder / README).data.eval_results
    assert [one.metric_value for one in results if one.dataset_name == "wiki.txt"] == [1.5, 7.4]
    assert results[-1].metric_args == {"command": "trivium evaluate --model out"}
    assert "| `wiki.txt` | all of it | bits per predicted byte | 1.5 |" in text_of(folder)
    (folder / "evaluation.json").write_text(json.dumps(found | {"date": "2026-11-22T09:00:00+00:00"}))
    write_card(folder)
    assert "wiki.txt" not in text_of(folder)  # measured before training ended


def test_emissions_are_in_grams_and_say_how_they_were_measured(folder):
    co2 = {"emissions": 1.25, "source": "codecarbon 3.3", "training_type": "pre-training"}
    co2 |= {"geographical_location": "France", "hardware_used": "CPU"}
    emissions = {"co2_eq_emissions": co2, "energy_kwh": 0.02, "note": "an estimate", "steps": [0, 20]}
    (folder / "trivium_run.json").write_text(json.dumps(record(emissions=emissions)))
    write_card(folder)
    assert ModelCard.load(folder / README).data.co2_eq_emissions == co2
    assert "1.25 g of CO2" in text_of(folder) and "An estimate." in text_of(folder)


def test_a_model_that_was_trained_further_names_its_base(folder):
    recorded = record()
    recorded["pretraining"]["model_name_or_path"] = "org/base"
    (folder / "trivium_run.json").write_text(json.dumps(recorded))
    write_card(folder)
    data = ModelCard.load(folder / README).data
    assert (data.base_model, data.base_model_relation) == ("org/base", "finetune")
    assert "trained further from [org/base](https://huggingface.co/org/base)" in text_of(folder)
    recorded["pretraining"]["model_name_or_path"] = "../local/folder"
    (folder / "trivium_run.json").write_text(json.dumps(recorded))
    write_card(folder)
    assert ModelCard.load(folder / README).data.base_model is None and "`../local/folder`" in text_of(folder)


def test_a_conversion_stays_one_when_its_card_is_refreshed(tmp_path):
    folder = save(tmp_path / "ours")
    notes = ["a note"]
    conversion = dict(
        source="theirs", kind="LlamaForCausalLM (llama)", agreement="the same to the last bit", notes=notes
    )
    write_card(folder, conversion=conversion | {"license": "mit", "base_model": "org/theirs"})
    before = text_of(folder)
    data = ModelCard.load(folder / README).data
    assert (data.base_model, data.base_model_relation, data.license) == ("org/theirs", "quantized", "mit")
    assert "not trained any further" in before and "the same to the last bit" in before and "- a note" in before
    write_card(folder)
    assert text_of(folder) == before
    (folder / "trivium_run.json").write_text(json.dumps(record()))  # trained since
    write_card(folder)
    assert "not trained any further" not in text_of(folder)


def test_a_checkpoint_on_the_way_says_so(tmp_path):
    folder = save(
        tmp_path / "run" / "checkpoint-6",
        recorded={name: value for name, value in record().items() if name != "metrics"},
    )
    (folder / "trivium_state.json").write_text(json.dumps({"step": 6, "work": {"tokens": 55}}))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 6, "max_steps": 20, "log_history": log()}))
    (folder.parent / "card.yaml").write_text("license: mit\n")
    write_card(folder)
    text = text_of(folder)
    assert "# run, checkpoint-6" in text and "after 6 of 20 steps" in text and "| Tokens read | 55 |" in text
    assert (
        "held out" not in text.partition("## How well")[2].partition("## What it cost")[0]
    )  # measured at step 20 only
    assert ModelCard.load(folder / README).data.license == "mit"


EVIL = (
    "</details><script>x()</script> `a` ``` | b\n---\nlicense: gpl\n---\n<!-- [x](javascript:y) "
    '\u202e hf_AbCdEfGhIjKlMn "}}'
)


def poison(value):
    """The record with every text made hostile that a data set, a setting or a machine could bring."""
    if isinstance(value, dict):
        return {name: poison(one) if name not in ("kind", "family", "ended") else one for name, one in value.items()}
    if isinstance(value, list):
        return [poison(one) for one in value]
    return EVIL if isinstance(value, str) else value


@pytest.mark.parametrize("kind", ["hub", "files", "python-docs"])
def test_nothing_that_is_recorded_can_do_anything_to_the_card(tmp_path, kind):
    markdown_it = pytest.importorskip("markdown_it")
    folder = save(tmp_path / "model")
    recorded = record()
    recorded["data"][0] |= {"kind": kind, "languages": ["en"]}
    recorded["pretraining"] |= {"objective": "x", "model_name_or_path": "x"}
    recorded = poison(recorded) | {
        "emissions": poison({"co2_eq_emissions": {"emissions": 1.0, "source": "x"}, "note": "x"})
    }
    recorded["data"][0]["languages"] = ["en"]
    (folder / "trivium_run.json").write_text(json.dumps(recorded))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 20, "log_history": log()}))
    rows = [{"data": EVIL, "bits_per_byte": 1.5, "perplexity": 2.5}]
    (folder / "evaluation.json").write_text(json.dumps({"settings": {"model": EVIL}, "rows": rows}))
    prose = (
        "data_description",
        "data_license",
        "intended_use",
        "out_of_scope",
        "limitations",
        "biases",
        "contact",
        "name",
    )
    write_card(folder, given=dict.fromkeys(prose, EVIL))
    check_harmless(text_of(folder), markdown_it)


def test_nothing_that_a_configuration_says_can_do_anything_to_the_card(tmp_path):
    markdown_it = pytest.importorskip("markdown_it")
    folder = save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": [EVIL], "trivium_version": EVIL}
    (folder / "config.json").write_text(json.dumps(config))
    try:
        write_card(folder)
    except InputError:
        return  # refused is as good
    check_harmless(text_of(folder), markdown_it)


def check_harmless(text, markdown_it):
    card = ModelCard(text)
    assert card.data.license is None and "AbCdEfGhIjKlMn" not in text and "\u202e" not in text
    check_metadata(card.data.to_dict())
    tokens = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").parse(card.text)
    html = [one.content.strip() for one in tokens if one.type == "html_block"]
    assert [one for one in html if one not in ("</details>",)][-1].startswith("<!-- trivium card: ")
    assert all(one.startswith(("<details>\n<summary>The recipe", "</details>", "<!-- trivium card:")) for one in html)
    inline = [child for one in tokens for child in one.children or []]
    assert not [child for child in inline if child.type == "html_inline"]
    links = [child.attrs["href"] for child in inline if child.type == "link_open"]
    assert all(link.startswith("https://huggingface.co/") for link in links)
    headings = [tokens[number + 1].content for number, one in enumerate(tokens) if one.type == "heading_open"]
    assert len(headings) == 9 and headings[1:3] == ["How to use it", "The model"]


def test_the_verb_writes_says_what_is_missing_and_keeps_answers(folder, capsys):
    assert cli.main(["card", str(folder), "--license", "mit", "--language", "en", "de", "--tags", "a b"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"Wrote {folder / README}." and not any(line.startswith("- license") for line in said)
    assert any(line.startswith("- intended_use: what the model is meant for (--intended_use ") for line in said)
    assert cli.main(["card", str(folder), "--contact", "Ada"]) == 0
    data = ModelCard.load(folder / README).data
    assert (data.license, data.language, data.tags) == ("mit", ["en", "de"], ["trivium", "a b"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--license", "Apache 2"], "did you mean 'apache-2.0'?"),
        (["--language", "english"], "did you mean 'en'?"),
        (["--license", "other"], "needs a license_name"),
        (["--license_name", "x"], "are for the license 'other'"),
        (["--base_model_relation", "finetuned"], "did you mean 'finetune'?"),
        (["--pipeline_tag", "fillmask"], "did you mean 'fill-mask'?"),
        (["--repo_id", "a b"], "looks like me/my-model"),
    ],
)
def test_a_wrong_answer_writes_nothing(folder, arguments, said, capsys):
    before = sorted(path.name for path in folder.rglob("*"))
    assert cli.main(["card", str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("trivium: error: ") and error.count("\n") == 1
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_a_name_on_the_hub_is_what_the_snippet_loads(folder):
    write_card(folder, given={"repo_id": "me/my-decoder"})
    text = text_of(folder)
    assert 'name = "me/my-decoder"' in text and "path/to/this/folder" not in text and "# me/my-decoder" in text


def test_a_card_written_aside_is_that_of_its_place(folder, tmp_path):
    place = tmp_path / "later"
    place.mkdir()
    (place / "card.yaml").write_text("license: mit\n")
    write_card(folder, place)
    assert "# later" in text_of(folder) and (folder / "card.yaml").is_file()
    shutil.rmtree(place)
