"""The command line: help, dispatch, and the exit code and sentence of each error that a user can mend."""

import errno
import os
import subprocess
import sys
from types import ModuleType

import pytest

from trivium import __version__, cli
from trivium.configuration.errors import InputError
from trivium.training.verbs import run


@pytest.fixture
def verb(monkeypatch):
    """A verb whose `main` can be replaced; it keeps the arguments that it was given."""
    module = ModuleType("trivium.training.rehearse")
    module.seen = []
    module.main = module.seen.append
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cli, "VERBS", {"pretrain": "trivium.training.pretrain", "rehearse": module.__name__})
    return module


def failing(error):
    def main(argv):
        raise error

    return main


def test_help_lists_every_verb_with_a_line_and_an_example(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in cli.VERBS:
        line = next(line for line in out.splitlines() if line.strip().startswith(name))
        assert len(line.split()) > 3
    assert "trivium pretrain --config" in out


def test_help_imports_no_verb():
    code = (
        "import sys; from trivium import cli; cli.main(['--help']);"
        "loaded = [verb for verb, module in cli.VERBS.items() if module in sys.modules];"
        "sys.exit(f'imported: {loaded}' if loaded or 'datasets' in sys.modules else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_no_arguments_is_bad_usage(capsys):
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: trivium VERB")


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"trivium {__version__}\n"


def test_a_verb_gets_its_arguments_and_gives_its_exit_code(verb):
    assert cli.main(["rehearse", "--steps", "3"]) == 0
    assert verb.seen == [["--steps", "3"]]
    verb.main = lambda argv: 7
    assert cli.main(["rehearse"]) == 7


@pytest.mark.parametrize("name", cli.VERBS)
def test_each_verb_has_its_own_help(name, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    assert "--" in capsys.readouterr().out


def test_an_unknown_verb_names_the_nearest(capsys):
    assert cli.main(["pretrian"]) == 2
    assert capsys.readouterr().err == "trivium: error: there is no verb 'pretrian'; did you mean 'pretrain'?\n"


def test_a_verb_like_no_other_gets_the_list(capsys):
    assert cli.main(["xyz"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(name in err for name in cli.VERBS)


def test_bad_input_is_one_sentence(verb, capsys):
    verb.main = failing(InputError("data.txt is empty; give a file with text"))
    assert cli.main(["rehearse"]) == 2
    assert capsys.readouterr().err == "trivium: error: data.txt is empty; give a file with text\n"


def test_an_interrupt_is_one_line(verb, capsys):
    verb.main = failing(KeyboardInterrupt())
    assert cli.main(["rehearse"]) == 130
    assert capsys.readouterr().err == "trivium: interrupted\n"


def wrapped(cause):
    error = RuntimeError("could not write the dataset")
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/model.safetensors")


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (FULL, " for out/model.safetensors"),
        (wrapped(FULL), " for out/model.safetensors"),
        (Exception("Error while serializing: No space left on device (os error 28)"), ""),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), ""),
    ],
    ids=["os", "wrapped", "rust", "torch"],
)
def test_a_full_disk_is_one_sentence(error, where, capsys):
    assert run(failing(error), []) == 2
    expected = f"trivium: error: no space left on the device{where}; free some, or write to another one\n"
    assert capsys.readouterr().err == expected


def test_a_missing_optional_library_names_its_extra(capsys):
    assert run(failing(ModuleNotFoundError("No module named 'datasets'", name="datasets")), []) == 2
    assert 'pip install "trivium[train]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), OSError(errno.EIO, "broken disk"), ModuleNotFoundError("No module named 'x'", name="x")],
)
def test_every_other_error_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised:
        run(failing(error), [])
    assert raised.value is error


def test_run_reads_the_arguments_of_the_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--max_steps", "1"])
    seen = []
    assert run(seen.append) == 0
    assert seen == [["--max_steps", "1"]]
