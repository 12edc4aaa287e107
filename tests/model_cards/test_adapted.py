"""Cards of real adapters: true to what PEFT saved, run as they stand, with the base model here and without it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from huggingface_hub import CommitOperationAdd, ModelCard, ModelCardData, snapshot_download
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model

from tests.families import HEADS, make_model
from tests.model_cards.folders import log, record, tokenizer
from tests.model_cards.test_card import EVIL, check_harmless
from trivium import cli
from trivium.configuration import InputError
from trivium.model_cards.card import README, is_by_hand, is_stock, write_card
from trivium.model_cards.metadata import check_metadata
from trivium.model_cards.push import prepare

ROOT = Path(__file__).resolve().parents[2]
ADAPTED = [head for head in HEADS if head.task in ("lm", "sequence")]
(DECODER,) = [head for head in HEADS if str(head) == "decoder-lm"]
TASKS = {"sequence": "SEQ_CLS", "decoder-lm": "CAUSAL_LM", "encoder_decoder-lm": "SEQ_2_SEQ_LM", "encoder-lm": None}
TAGS = {"sequence": "text-classification", "decoder-lm": "text-generation", "encoder-lm": "fill-mask"}
TAGS |= {"encoder_decoder-lm": "text2text-generation"}
REMOTE = """
import sys
sys.path.insert(0, {root!r})
from tests.remote import forget_trivium
forget_trivium()
for file in {files!r}:
    exec(open(file).read(), made := dict())
    assert type(made["model"]).__module__.startswith("transformers_modules.")
    assert any("lora_A" in name for name, _ in made["model"].named_parameters())
"""


def of(head, table):
    return table[head.task] if head.task in table else table[str(head)]


def save_adapter(folder, head=DECODER, base=None, settings=None, labels=2, **changes):
    """A base model, and an adapter of it with its tokenizer beside it, as PEFT saves them."""
    if base is None:
        base = folder.with_name("base")
        make_model(head).save_pretrained(base)
    model = head.model.from_pretrained(base, num_labels=labels)
    fields = dict(r=4, lora_alpha=8, lora_dropout=0.05, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(model, settings or LoraConfig(task_type=of(head, TASKS), **fields | changes))
    adapted.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return adapted.eval()


def text_of(folder):
    return (folder / README).read_text(encoding="utf-8")


def snippets(folder):
    found = re.findall(r"```py(?:thon)?\n(.*?)```", text_of(folder), re.DOTALL)
    return [one.replace("path/to/this/folder", str(folder)) for one in found]


def set_base(folder, name):
    fields = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(fields | {"base_model_name_or_path": name}))


@pytest.fixture(scope="module", params=ADAPTED, ids=str)
def adapted(request, tmp_path_factory):
    """An adapter's folder with its card, the head, and the model that PEFT made."""
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    model = save_adapter(folder, request.param)
    write_card(folder)
    return folder, request.param, model


@pytest.fixture
def folder(tmp_path):
    save_adapter(tmp_path / "mine")
    return tmp_path / "mine"


@torch.no_grad()
def outputs(model, head):
    ids = torch.tensor([[5, 6, 7, 8, 9, 2]])
    more = {"decoder_input_ids": ids} if head.has_target else {}
    return model(input_ids=ids, **more).logits


def test_the_metadata_says_what_it_is_and_is_valid(adapted):
    folder, head, _ = adapted
    data = ModelCard.load(folder / README).data
    assert (data.library_name, data.tags) == ("peft", ["trivium", "lora", "transformers"])
    assert data.pipeline_tag == of(head, TAGS)
    assert data.base_model is None and "base_model_relation" not in data.to_dict()  # it is only in a folder
    check_metadata(data.to_dict())


def test_the_text_says_what_the_adapter_is_and_of_what(adapted):
    folder, head, model = adapted
    text = text_of(folder)
    own = sum(value.numel() for value in peft.get_peft_model_state_dict(model).values())
    whole = make_model(head).num_parameters()
    assert f"{own:,} parameters in float32, {100 * own / whole:.3g}% of the {whole:,} of the base model" in text
    for row in (
        "Method | LoRA",
        "Rank | 4",
        "Alpha | 8",
        "Dropout | 0.05",
        "Layers | 2",
        f"Version of PEFT | {peft.__version__}",
    ):
        assert f"| {row} |" in text
    assert "`q_proj`, `up_proj`, `v_proj`" in text and f"`{head.model.__name__}`" in text
    assert ("| Trained whole | `classifier`, `score` |" in text) == (head.task == "sequence")
    assert "a local model, `base`" in text and str(folder.parent) not in text
    assert "*Not known: no record of a training run lies beside the weights.*" in text


def test_the_snippets_run_as_they_stand_and_load_the_adapter(adapted):
    folder, head, model = adapted
    exec(snippets(folder)[0], made := {})
    assert type(made["model"]).__module__.startswith("trivium.")
    assert torch.equal(outputs(made["model"].eval(), head), outputs(model, head))
    assert not torch.equal(outputs(make_model(head), head), outputs(model, head))


def test_the_snippets_run_where_trivium_is_not(tmp_path):
    files = []
    for head in ADAPTED:
        save_adapter(tmp_path / str(head) / "mine", head)
        write_card(tmp_path / str(head) / "mine")
        files.append(tmp_path / f"{head}.py")
        files[-1].write_text(snippets(tmp_path / str(head) / "mine")[1])
    script = REMOTE.format(root=str(ROOT), files=[str(file) for file in files])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("generated_text", "token_str", "label"))


@pytest.mark.parametrize("labels", [2, 3])
def test_a_classifier_on_a_base_without_one_is_loaded_with_its_size(tmp_path, labels):
    (head,) = [head for head in HEADS if str(head) == "decoder-sequence"]
    make_model(DECODER).save_pretrained(tmp_path / "base")
    expected = outputs(save_adapter(tmp_path / "mine", head, tmp_path / "base", labels=labels), head)
    write_card(tmp_path / "mine")
    assert ("num_labels=3" in text_of(tmp_path / "mine")) == (labels == 3)
    exec(snippets(tmp_path / "mine")[0], made := {})
    assert torch.equal(outputs(made["model"].eval(), head), expected)
    assert prepare(tmp_path / "mine", "me/mine").expected.answer["logits 0"].shape[-1] == labels


def test_learnt_prompts_are_put_on_by_peft_itself(tmp_path):
    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model = save_adapter(tmp_path / "mine", settings=settings)
    write_card(tmp_path / "mine")
    text = text_of(tmp_path / "mine")
    assert "| Method | prompt tuning |" in text and "| Learnt tokens | 4 |" in text
    assert ModelCard.load(tmp_path / "mine" / README).data.tags == ["trivium", "transformers"]
    exec(snippets(tmp_path / "mine")[0].replace("path/to/the/base/model", str(tmp_path / "base")), made := {})
    assert isinstance(made["model"], PeftModel)
    assert torch.equal(outputs(made["model"].eval(), DECODER), outputs(model, DECODER))


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({"use_dora": True}, "Method | DoRA"),
        ({"use_rslora": True}, "Method | rank-stabilised LoRA"),
        ({"rank_pattern": {"q_proj": 2}}, "Rank | 4; of 1 modules another"),
        ({"target_modules": r".*\.q_proj"}, r"Put into | `.*\.q_proj`"),
        ({"target_modules": ["v_proj"], "modules_to_save": ["lm_head"]}, "Trained whole | `lm_head`"),
        ({"bias": "all"}, "Biases trained | all"),
        ({"init_lora_weights": "orthogonal"}, "Initialization | orthogonal"),
    ],
)
def test_what_is_not_as_usual_is_said(tmp_path, changes, row):
    save_adapter(tmp_path / "mine", **changes)
    write_card(tmp_path / "mine")
    assert f"| {row} |" in text_of(tmp_path / "mine")


@pytest.mark.parametrize("is_here", [True, False])
def test_a_base_on_the_hub_is_named_and_linked_whether_it_is_here_or_not(folder, hub, is_here):
    if is_here:
        hub.api().create_repo("ada/base")
        files = [CommitOperationAdd(path.name, path) for path in (folder.parent / "base").iterdir()]
        hub.api().create_commit("ada/base", files, commit_message="Add")
        snapshot_download("ada/base")
    set_base(folder, "ada/base")
    hub.requests.clear()
    card = write_card(folder)
    text, data = text_of(folder), ModelCard.load(folder / README).data
    assert hub.requests == []
    assert (data.base_model, data.base_model_relation, data.library_name) == ("ada/base", "adapter", "peft")
    assert "[ada/base](https://huggingface.co/ada/base)" in text and "a local model" not in text
    assert data.pipeline_tag == "text-generation" and "AutoModelForCausalLM.from_pretrained(name" in text
    said = "\n".join(card.missing)
    assert ("'ada/base' is not on this machine" in said) != is_here and ("Layers" in text) == is_here
    assert ("it is not on this machine" in text) != is_here and len(snippets(folder)) == 1 + is_here
    assert ("of the base model |" in text) == is_here and ("trivium" in data.tags) == is_here
    check_metadata(data.to_dict())


def test_of_an_adapter_without_a_task_or_a_base_everything_else_is_said(folder):
    fields = json.loads((folder / "adapter_config.json").read_text()) | {"task_type": None}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    set_base(folder, "org/gone")
    said = "\n".join(write_card(folder).missing)
    text = text_of(folder)
    assert snippets(folder) == [] and "does not say for which task it is" in text
    assert "names no task_type" in said and "| Rank | 4 |" in text
    assert ModelCard.load(folder / README).data.pipeline_tag is None


def test_what_training_recorded_around_an_adapter_is_on_its_card(tmp_path):
    place = tmp_path / "run" / "checkpoint-20" / "mine"
    save_adapter(tmp_path / "mine")
    shutil.copytree(tmp_path / "mine", place)
    state = json.dumps({"global_step": 20, "max_steps": 40, "log_history": log()})
    (place.parent / "trainer_state.json").write_text(state)
    write_card(place)
    text = text_of(place)
    assert "| Steps | 20 |" in text and "after 20 of 40 steps" in text and "training loss 4.8 at step 2" in text
    (tmp_path / "mine" / "trivium_run.json").write_text(json.dumps(record()))
    write_card(tmp_path / "mine")
    data = ModelCard.load(tmp_path / "mine" / README).data
    assert "1,234" in text_of(tmp_path / "mine") and data.datasets == ["org/texts"] and data.base_model is None


def test_answers_stay_and_refreshing_changes_nothing(folder):
    write_card(folder, given={"license": "mit", "base_model": "org/base", "contact": "Ada"})
    before = text_of(folder)
    card = write_card(folder)
    data = ModelCard.load(card.path).data
    assert text_of(folder) == before and "**Contact.** Ada" in before
    assert (data.license, data.base_model, data.base_model_relation) == ("mit", "org/base", "adapter")
    assert "a local model" not in before and "from_pretrained('org/base'), name)" in before
    assert not [clause for clause in card.missing if clause.startswith(("license", "base_model", "contact"))]


def test_pefts_own_card_gives_way_and_one_that_somebody_filled_in_does_not(folder):
    path = folder / README
    stock = text_of(folder)
    assert is_stock(ModelCard.load(path)) and not is_by_hand(path)
    for old, new in (
        ("## Uses\n", "## Uses\n\nTo test.\n"),
        ("- **License:** [More Information Needed]", "- **License:** MIT"),
        ("library_name: peft", "library_name: peft\nlicense: mit"),
        ("- PEFT ", "- torch "),
        ("<!-- Provide a quick summary of what the model is/does. -->", "It knits."),
    ):
        assert old in stock
        path.write_text(stock.replace(old, new, 1))
        assert not is_stock(ModelCard.load(path)) and is_by_hand(path)
        with pytest.raises(InputError, match="by hand"):
            write_card(folder)
    path.write_text(stock)
    write_card(folder)
    assert "More Information Needed" not in text_of(folder) and not is_by_hand(path)
    assert not is_stock(ModelCard.load(path))


def test_a_card_of_two_versions_of_peft_is_stock_and_one_with_a_summary_is_not():
    stock = ModelCard.from_template(ModelCardData()).content
    assert is_stock(ModelCard(f"{stock}\n### Framework versions\n\n- PEFT 0.21.2\n- PEFT 0.20.0"))
    assert not is_stock(ModelCard(f"{stock}\n### Framework versions\n\n- PEFT 0.21.2\n\nMine."))
    assert not is_stock(ModelCard.from_template(ModelCardData(), model_summary="Mine."))
    assert not is_stock(ModelCard("---\nlibrary_name: peft\n---\n"))


def test_a_push_refreshes_the_card(folder):
    plan = prepare(folder, "me/mine")
    text = text_of(folder)
    assert 'name = "me/mine"' in text and plan.expected.architecture == "TriviumDecoderForCausalLM"
    assert any("names its base model by a folder that others have not" in note for note in plan.notes)
    assert any(note.startswith("the card does not say license") for note in plan.notes)
    (folder / README).write_text("# Mine\n")
    assert any("by hand" in note for note in prepare(folder, "me/mine", load=False).notes)


def test_an_adapter_of_a_masked_language_model_is_proved_with_what_it_changes(tmp_path):
    """As features, for which PEFT would look in a model without a head, and find nothing to change."""
    (head,) = [head for head in HEADS if str(head) == "encoder-lm"]
    fields = dict(r=4, target_modules="all-linear", init_lora_weights=False)
    save_adapter(tmp_path / "mine", head, settings=LoraConfig(task_type="FEATURE_EXTRACTION", **fields))
    found, bare = (prepare(tmp_path / name, "me/mine").expected.answer["logits 0"] for name in ("mine", "base"))
    assert not torch.equal(found, bare)
    assert ModelCard.load(tmp_path / "mine" / README).data.pipeline_tag == "fill-mask"


def test_the_verb_writes_it_and_refuses_what_is_broken(folder, capsys):
    assert cli.main(["card", str(folder), "--license", "mit"]) == 0
    assert capsys.readouterr().out.startswith(f"Wrote {folder / README}.")
    before = text_of(folder)
    for name, content in (("adapter_model.safetensors", b"{"), ("adapter_config.json", b"{")):
        (folder / name).write_bytes(content)
        assert cli.main(["card", str(folder)]) == 2
        error = capsys.readouterr().err
        assert str(folder / name) in error and error.count("\n") == 1 and text_of(folder) == before


def test_nothing_that_an_adapter_says_can_do_anything_to_its_card(folder):
    markdown_it = pytest.importorskip("markdown_it")
    fields = json.loads((folder / "adapter_config.json").read_text())
    evil = dict.fromkeys(
        ("peft_type", "r", "lora_alpha", "bias", "peft_version", "init_lora_weights", "auto_mapping"), EVIL
    )
    evil |= {"target_modules": [EVIL, f"a.{EVIL}"], "modules_to_save": EVIL, "rank_pattern": {EVIL: 3}}
    for more in (
        {},
        {"base_model_name_or_path": EVIL},
        {"auto_mapping": {"base_model_class": EVIL}, "task_type": None},
    ):
        (folder / "adapter_config.json").write_text(json.dumps(fields | evil | more))
        write_card(folder)
        check_harmless(text_of(folder), markdown_it)
