"""The code beside a saved configuration: complete, flat, and of nothing but what any machine with transformers has."""

import ast
import json
import sys

import pytest

from trivium.configuration import InputError, TriviumEncoderConfig
from trivium.configuration.bundle import SHIM, bundle
from trivium.configuration.families import TriviumDecoderConfig, TriviumEncoderDecoderConfig
from trivium.configuration.version import __version__, find_mismatch

CONFIGS = [TriviumEncoderConfig, TriviumDecoderConfig, TriviumEncoderDecoderConfig]
# Beside the standard library: what transformers itself needs.
EVERYWHERE = {"torch", "transformers", "huggingface_hub", "numpy", "packaging"}


def imports(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module


@pytest.mark.parametrize("config", CONFIGS)
def test_modules_import_each_other_and_what_is_everywhere(config):
    code = bundle(config)
    for name, text in code.items():
        for level, module in imports(text):
            if level:
                assert (level, f"{module}.py") == (1, f"{module}.py") and f"{module}.py" in code, name
            else:
                root = module.partition(".")[0]
                assert root in EVERYWHERE or root in sys.stdlib_module_names, f"{name} imports {module}"
    needed, waiting = set(), [SHIM]
    while waiting:
        module = waiting.pop()
        if module not in needed:
            needed.add(module)
            waiting += [name for level, name in imports(code[f"{module}.py"]) if level]
    assert {f"{module}.py" for module in needed} == code.keys(), "something is carried that nothing needs"


@pytest.mark.parametrize("config", CONFIGS)
def test_nothing_is_registered_by_model_type(config):
    """Or one checkpoint would run the code of another in the same process."""
    for name, text in bundle(config).items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and node.attr == "register":
                assert isinstance(node.value, ast.Name) and node.value.id in (
                    "AttentionInterface",
                    "AttentionMaskInterface",
                ), f"{name}, line {node.lineno}"


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_is_saved_with_its_code_and_versions(config, tmp_path):
    saved = config(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    saved.save_pretrained(tmp_path)
    for name, text in bundle(config).items():
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", *bundle(config)}
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["trivium_version"] == __version__ and fields["torch_version"] and fields["transformers_version"]
    assert {value.partition(".")[0] for value in fields["auto_map"].values()} == {SHIM}
    shim = ast.parse(bundle(config)[f"{SHIM}.py"])
    given = {alias.name for node in shim.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {value.partition(".")[2] for value in fields["auto_map"].values()} <= given
    assert config.from_pretrained(tmp_path).to_dict() == saved.to_dict()


def test_code_that_an_older_version_left_is_replaced_and_nothing_else(tmp_path):
    (tmp_path / "modeling_stack.py").write_text("old")
    (tmp_path / "notes.py").write_text("mine")
    TriviumDecoderConfig().save_pretrained(tmp_path)
    assert (tmp_path / "modeling_stack.py").read_text() == bundle(TriviumDecoderConfig)["modeling_stack.py"]
    assert (tmp_path / "notes.py").read_text() == "mine" and not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    ("trivium", "transformers", "said"),
    [
        (None, None, None),
        (__version__, "5.17.0", None),
        ("0.0.9", None, None),
        ("99.0.0", None, "written by Trivium 99.0.0, and"),
        (None, "4.50.0", "written with transformers 4.50.0"),
        (None, "99.1", "written with transformers 99.1"),
    ],
)
def test_a_mismatch_that_matters_is_said_in_one_sentence(trivium, transformers, said, tmp_path):
    mismatch = find_mismatch(trivium, transformers)
    assert (mismatch is None) if said is None else (said in mismatch and mismatch.endswith("."))


def test_a_field_of_a_newer_version_is_named_together_with_the_version(tmp_path):
    TriviumDecoderConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trivium_version": "99.0.0", "new_field": 1}))
    with pytest.raises(InputError, match=r"has no field `new_field`.*written by Trivium 99.0.0, and"):
        TriviumDecoderConfig.from_pretrained(tmp_path)
