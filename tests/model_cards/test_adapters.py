"""What an adapter says of itself: that is read as PEFT means it, and its base model is found without asking anybody."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig

from tests.families import HEADS, make_config
from trivium.configuration import InputError
from trivium.model_cards.adapters import ADAPTER_CONFIG, APART, TASKS, WEIGHTS, Adapter, find_base, read_adapter

INSIDE = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(4, 8)}
BARE = {"base_model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(4, 8)}
PEFT_TASKS = {"sequence": "SEQ_CLS", "tokens": "TOKEN_CLS", "answer": "QUESTION_ANS", "base": "FEATURE_EXTRACTION"}
PEFT_TASKS |= {"decoder-lm": "CAUSAL_LM", "encoder_decoder-lm": "SEQ_2_SEQ_LM"}
NAMED = [head for head in HEADS if head.task in PEFT_TASKS or str(head) in PEFT_TASKS]


def write(folder, weights=None, **fields):
    """An adapter's folder; a field that is `None` is left out."""
    folder.mkdir(exist_ok=True)
    said = {"base_model_name_or_path": "org/base", "peft_type": "LORA"} | fields
    (folder / ADAPTER_CONFIG).write_text(json.dumps({name: value for name, value in said.items() if value is not None}))
    save_file(INSIDE if weights is None else weights, folder / WEIGHTS)
    return Adapter(folder, folder)


@pytest.mark.parametrize(
    ("fields", "method"),
    [
        ({}, "LoRA"),
        ({"use_dora": True}, "DoRA"),
        ({"use_rslora": True}, "rank-stabilised LoRA"),
        ({"use_rslora": True, "use_dora": True}, "rank-stabilised DoRA"),
        ({"peft_type": "IA3"}, "(IA)³"),
        ({"peft_type": "OFT"}, "OFT"),
        ({"peft_type": "NEW"}, "NEW"),
        ({"peft_type": None}, "an unnamed method"),
    ],
)
def test_a_method_has_the_name_that_people_know(tmp_path, fields, method):
    assert write(tmp_path, **fields).method == method


def test_tasks_and_prompts_are_those_of_peft():
    from peft import PeftType, TaskType
    from peft.config import PromptLearningConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    assert TASKS.keys() == {task.value for task in TaskType}
    made = PEFT_TYPE_TO_CONFIG_MAPPING.items()
    learnt = {kind.value for kind, config in made if issubclass(config, PromptLearningConfig)}
    assert learnt <= set(APART) <= {kind.value for kind in PeftType}


@pytest.mark.parametrize("head", NAMED, ids=str)
def test_the_class_is_that_of_the_task_whatever_the_base_model_was_saved_as(tmp_path, head):
    config = make_config(head.family, architectures=["Trained"])
    task = PEFT_TASKS.get(head.task) or PEFT_TASKS[str(head)]
    adapter = write(tmp_path, BARE, task_type=task)
    assert adapter.class_of(config) == head.model.__name__
    assert adapter.class_of(None) == "" and adapter.auto == TASKS[task]


def test_features_inside_of_a_model_with_a_head_are_of_that_model(tmp_path):
    """PEFT has no task for masked language models, which are adapted as if they made features."""
    config = make_config("encoder", architectures=["TriviumEncoderForMaskedLM"])
    adapter = write(tmp_path, INSIDE, task_type="FEATURE_EXTRACTION")
    assert adapter.class_of(config) == "TriviumEncoderForMaskedLM"
    assert write(tmp_path, BARE, task_type="FEATURE_EXTRACTION").class_of(config) == "TriviumEncoderModel"


def test_without_a_task_the_class_is_the_one_on_record_or_else_that_of_the_base_model(tmp_path):
    config = BertConfig(architectures=["BertForMaskedLM"])
    assert write(tmp_path).class_of(config) == "BertForMaskedLM" and write(tmp_path).class_of(None) == ""
    recorded = write(tmp_path, auto_mapping={"base_model_class": "BertModel", "parent_library": "x"})
    assert recorded.class_of(config) == recorded.class_of(None) == "BertModel"
    assert write(tmp_path, task_type="SEQ_2_SEQ_LM").class_of(config) == "BertForMaskedLM"  # there is none of that task
    assert write(tmp_path).class_of(SimpleNamespace(architectures=None)) == ""


@pytest.mark.parametrize(
    ("task", "name", "labels"),
    [
        ("SEQ_CLS", "score.weight", 3),
        ("SEQ_CLS", "classifier.out_proj.weight", 3),
        ("TOKEN_CLS", "classifier.weight", 3),
        ("SEQ_CLS", "classifier.lora_A.weight", None),
        ("CAUSAL_LM", "score.weight", None),
    ],
)
def test_classes_are_counted_by_the_size_of_the_classifier(tmp_path, task, name, labels):
    assert write(tmp_path, {f"base_model.model.{name}": torch.zeros(3, 8)}, task_type=task).labels == labels


@pytest.mark.parametrize("named", ["as seen from here", "as seen from above", "in full"])
def test_a_folder_is_told_from_a_name_on_the_hub(tmp_path, monkeypatch, named, hub):
    (tmp_path / "out" / "base").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / ("elsewhere" if named == "as seen from above" else "."))
    name = str(tmp_path / "out" / "base") if named == "in full" else "out/base"
    write(tmp_path / "out" / "adapter", base_model_name_or_path=name)
    assert find_base(tmp_path / "out" / "adapter") == (name, str(tmp_path / "out" / "base"), False)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "on_hub"), [("ada/base", True), ("/gone/base", False), ("../base", False), ("base", False)]
)
def test_a_base_that_is_not_here_is_not_fetched(tmp_path, hub, name, on_hub):
    write(tmp_path / "adapter", base_model_name_or_path=name)
    assert find_base(tmp_path / "adapter") == (name, None, on_hub) and hub.requests == []


def test_a_base_in_the_cache_is_found(tmp_path, hub):
    from huggingface_hub import CommitOperationAdd, snapshot_download

    hub.api().create_repo("ada/base")
    hub.api().create_commit("ada/base", [CommitOperationAdd("config.json", b"{}")], commit_message="Add")
    there = snapshot_download("ada/base")
    hub.requests.clear()
    write(tmp_path / "adapter", base_model_name_or_path="ada/base")
    assert find_base(tmp_path / "adapter") == ("ada/base", there, True) and hub.requests == []


def test_a_whole_model_with_an_adapter_beside_it_is_a_whole_model(tmp_path):
    write(tmp_path)
    assert read_adapter(tmp_path, tmp_path) is not None
    (tmp_path / "config.json").write_text("{}")
    assert read_adapter(tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("broken", r"adapter_config\.json' is broken: save the model again"),
        ("list", r"adapter_config\.json' is broken"),
        ("unnamed", r"adapter_config\.json' names no base model: write its name"),
        ("null", r"names no base model"),
        ("number", r"names no base model"),
        ("weights", r"no adapter_model\.safetensors: save the adapter again"),
    ],
)
def test_bad_input_gets_one_sentence(tmp_path, trouble, said):
    named = {"unnamed": "", "null": None, "number": 3}
    write(tmp_path, base_model_name_or_path=named.get(trouble, "org/base"))
    if trouble in ("broken", "list"):
        (tmp_path / ADAPTER_CONFIG).write_text("{" if trouble == "broken" else "[1]")
    if trouble == "weights":
        (tmp_path / WEIGHTS).unlink()
    with pytest.raises(InputError, match=said) as caught:
        read_adapter(tmp_path, tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
