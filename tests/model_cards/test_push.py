"""A push moves what readers see from the old checkpoint to the new one, whole, once the new one was proved to load."""

import errno
import json
import os
import signal
import subprocess
import sys

import huggingface_hub
import pytest
import torch
from huggingface_hub import CommitOperationAdd
from transformers import LlamaConfig, LlamaForCausalLM

from tests.families import HEADS, make_model
from tests.hub.faults import FOREVER
from tests.hub.server import OTHER_TOKEN, READ_TOKEN, TOKEN
from trivium.configuration.errors import InputError
from trivium.model_cards import push as pushing
from trivium.model_cards.push import push

NAME = "ada/model"
OTHER_FAMILIES = ["encoder-tokens", "encoder_decoder-lm"]
PUSH = "import sys; from trivium.model_cards.push import push; push(sys.argv[1], sys.argv[2], load=False)"
CUTS = [{"status": 500}, {"cut": "request"}, {"cut": "applied"}, {"cut": "answer"}]


def save_llama(folder, seed):
    """A small model of transformers: its folder has few files, so a push makes few requests."""
    torch.manual_seed(seed)
    sizes = dict(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return save_llama(tmp_path / "new", 1)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "card.yaml"}


def make_old(hub):
    """What main is before, with a file that the new checkpoint has not and one that somebody else added."""
    old = {"config.json": b"{}", "model.safetensors": b"old", "pytorch_model.bin": b"stale", "LICENSE": b"mine"}
    hub.repositories.clear()
    hub.api().create_repo(NAME)
    hub.api().create_commit(NAME, [CommitOperationAdd(*item) for item in old.items()], commit_message="Old")
    hub.requests.clear()
    return old


def shared(text):
    return text.count("\n") == 0 and "hf_" not in text


@pytest.mark.parametrize("name", ["decoder-lm", *(pytest.param(n, marks=pytest.mark.slow) for n in OTHER_FAMILIES)])
def test_a_push_is_proved_with_and_without_the_package_before_main_moves(hub, tmp_path, name):
    (head,) = [head for head in HEADS if str(head) == name]
    make_model(head).save_pretrained(tmp_path / "model")
    pushed = push(tmp_path / "model", "model")
    assert pushed.name == NAME and pushed.commit == hub.branches(NAME)["main"] and pushed.notes == []
    assert pushed.proof.startswith(f"proved: {NAME} at ") and pushed.proof.endswith(
        "loads with and without trivium, outputs equal bit for bit on 2 x 32 random tokens"
    )
    assert hub.files(NAME) == files_of(tmp_path / "model") and hub.branches(NAME).keys() == {"main"}
    proved = [path for method, path in hub.requests if method == "GET" and "model.safetensors" in path]
    moved = next(i for i, (_, path) in enumerate(hub.requests) if path.endswith("/commit/main"))
    assert proved and all(hub.requests.index(("GET", path)) < moved for path in proved)


def test_what_is_stale_goes_and_what_others_added_stays(hub, folder):
    make_old(hub)
    push(folder, NAME, load=False)
    assert hub.files(NAME) == {**files_of(folder), "LICENSE": b"mine"}
    assert [commit.title for commit in hub.commits(NAME)][1:] == ["Old", "initial commit"]
    hub.requests.clear()
    again = push(folder, NAME, load=False)
    assert len(hub.commits(NAME)) == 3 and again.commit == hub.branches(NAME)["main"]
    assert not [path for method, path in hub.requests if method == "PUT" or "/commit/" in path]


def test_an_intermediate_checkpoint_goes_to_a_branch_and_main_stays(hub, folder, tmp_path):
    push(folder, NAME, load=False)
    main = hub.branches(NAME)["main"]
    for seed in (2, 3):
        step = save_llama(tmp_path / f"step-{seed}", seed)
        pushed = push(step, NAME, revision="step-1000", load=False)
        assert hub.files(NAME, "step-1000") == files_of(step) and pushed.url.endswith("/tree/step-1000")
        assert hub.branches(NAME) == {"main": main, "step-1000": pushed.commit}


def test_a_private_push_is_private_or_nothing(hub, folder):
    push(folder, NAME, private=True, load=False)
    assert hub.repository(NAME).private
    push(folder, NAME, load=False)
    assert hub.repository(NAME).private
    make_old(hub)
    before = hub.state()
    with pytest.raises(InputError, match=r"is public: .* without --private"):
        push(folder, NAME, private=True, load=False)
    assert hub.state() == before


def test_an_adapter_without_its_base_is_pushed_and_said_not_to_be_proved(hub, folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "ada/base"}))
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (adapter / "README.md").write_text("# Mine\n")
    assert push(adapter, NAME).proof.startswith("not proved: its base model is not on this machine")
    assert hub.files(NAME) == files_of(adapter)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("shorter", [False, True])
def test_bytes_that_arrived_changed_keep_main_where_it_was(hub, folder, file, shorter):
    old = make_old(hub)
    body = (folder / file).read_bytes()[:-1] + b"" if shorter else (folder / file).read_bytes()[:-1] + b"\x01"
    hub.inject(on=f"GET .*/resolve/.*{file}", status=200, body=body, times=FOREVER)
    with pytest.raises(InputError, match=r"the proof failed: .*; nothing was published\.$") as error:
        push(folder, NAME, load=False)
    assert hub.files(NAME) == old and shared(str(error.value))
    hub.heal()
    push(folder, NAME, load=False)
    assert hub.files(NAME)[file] == (folder / file).read_bytes() and hub.branches(NAME).keys() == {"main"}


def stop(hub, monkeypatch):
    hub.stop()


def go_offline(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def hang(hub, monkeypatch):
    hub.inject(on="PUT", delay=5, times=FOREVER)


def hang_while_reading(hub, monkeypatch):
    hub.inject(on="GET .*/model/refs", delay=5, times=FOREVER)


def fill_disk(hub, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", full)


def take_name(hub, monkeypatch):
    hub.repositories.clear()
    hub.api(OTHER_TOKEN).create_repo("bob/model")


def race(hub, monkeypatch):
    def commit():
        head = hub.repository(NAME)
        head.commit("main", [("file", "LICENSE", b"theirs")], "Meanwhile", "", "ada", None)

    hub.inject(on="POST .*/commit/main", call=commit)


def fault(**fields):
    return lambda hub, monkeypatch: hub.inject(times=FOREVER, **fields)


ECHO = {"X-Error-Message": f"no {TOKEN} here"}
GATED = {"X-Error-Code": "GatedRepo"}
TROUBLES = {
    "no token": (lambda hub, monkeypatch: monkeypatch.delenv("HF_TOKEN"), "there is no access token: run `hf auth"),
    "wrong token": (lambda hub, monkeypatch: monkeypatch.setenv("HF_TOKEN", "hf_nobody"), "does not know the access"),
    "no right": (lambda hub, monkeypatch: monkeypatch.setenv("HF_TOKEN", READ_TOKEN), "has no right to write to 'ada/"),
    "stranger": (lambda hub, monkeypatch: monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN), "has no right to write to"),
    "taken": (take_name, "has no right to write to 'bob/model'"),
    "offline": (
        lambda hub, monkeypatch: monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True),
        "unset",
    ),
    "down": (stop, "cannot be reached: check the network"),
    "500": (fault(on="/commit/", status=500), "answered 500"),
    "echo": (fault(on="/commit/", status=500, headers=ECHO), "no <token> here"),
    "502 page": (fault(status=502, body=b"<html>Bad gateway</html>"), "answered 502"),
    "200 page": (fault(status=200, body=b"<html>Log in</html>"), "something other than JSON"),
    "429": (fault(on="/preupload/", status=429), "fewer requests"),
    "gated": (fault(on="GET .*/resolve/", status=403, headers=GATED), "is gated"),
    "upload": (fault(on="PUT", status=503), "answered 503"),
    "cut": (fault(on="/branch/", cut="before"), "broke off"),
    "hang": (hang, "does not answer"),
    "hang while reading": (hang_while_reading, "does not answer"),
    "disk": (fill_disk, "no space is left on this machine"),
    "race": (race, "changed by somebody else meanwhile"),
}


@pytest.mark.filterwarnings("ignore:Warnings while validating")
@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_trouble_is_one_sentence_and_changes_nothing_that_readers_see(hub, folder, monkeypatch, caplog, trouble):
    make_old(hub)
    prepare, words = TROUBLES[trouble]
    name = "bob/model" if trouble == "taken" else NAME
    prepare(hub, monkeypatch)
    before = {key: repository.branches["main"] for key, repository in hub.repositories.items()}
    caplog.set_level("INFO")
    with pytest.raises(InputError) as error:
        push(folder, name, load=False, timeout=0.2 if "hang" in trouble else 20)
    said = str(error.value)
    assert words in said and shared(said) and said.endswith(".") and said.count("; ") >= 1
    assert said.endswith("; nothing was published.")
    assert error.value.__suppress_context__ and TOKEN not in caplog.text
    if trouble != "race":
        assert {key: repository.branches["main"] for key, repository in hub.repositories.items()} == before
    else:
        assert hub.files(NAME)["LICENSE"] == b"theirs" and hub.files(NAME)["config.json"] == b"{}"


@pytest.mark.parametrize("name", ["a/b/c", "ada/mo del", "ada/", "-x", "ada/" + "x" * 99, "ada/x.git"])
def test_a_name_that_cannot_be_is_refused_before_anything(hub, folder, name):
    with pytest.raises(InputError, match="cannot be the name of a repository"):
        push(folder, name)
    with pytest.raises(InputError, match="cannot be the name of a branch"):
        push(folder, NAME, revision="a b")
    assert hub.requests == []


def attempt(folder):
    """The sentence if it fails; every failure must be one."""
    try:
        push(folder, NAME, load=False)
    except InputError as error:
        assert shared(str(error)), error
        return str(error)
    return None


def survive(hub, folder, fields, step, times):
    """Pushes over an old checkpoint while requests fail from `step` on; then the same again without."""
    old = make_old(hub)
    new = {**files_of(folder), "LICENSE": b"mine"}
    hub.inject(after=step, times=times, **fields)
    said = attempt(folder)
    assert hub.files(NAME) in (old, new), (fields, step, said)
    assert said or hub.files(NAME) == new
    assert said is None or "nothing was published" not in said or hub.files(NAME) == old
    hub.heal()
    assert attempt(folder) is None
    assert hub.files(NAME) == new and hub.branches(NAME).keys() == {"main"}


def count_requests(hub, folder):
    make_old(hub)
    push(folder, NAME, load=False)
    return len(hub.requests)


@pytest.mark.parametrize("fields", CUTS, ids=str)
def test_main_is_the_old_or_the_new_when_some_request_fails(hub, folder, fields):
    steps = count_requests(hub, folder)
    assert steps > 20
    for step in range(2 * CUTS.index(fields), steps, 8):
        survive(hub, folder, fields, step, FOREVER)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, FOREVER])
@pytest.mark.parametrize("fields", CUTS, ids=str)
def test_main_is_the_old_or_the_new_whatever_request_fails(hub, folder, fields, times):
    for step in range(count_requests(hub, folder)):
        survive(hub, folder, fields, step, times)


def kill_at(hub, folder, step, cut):
    old = make_old(hub)
    new = {**files_of(folder), "LICENSE": b"mine"}
    client = subprocess.Popen([sys.executable, "-c", PUSH, str(folder), NAME], env=hub.environment())
    hub.inject(after=step, call=client.kill, cut=cut)
    client.wait(timeout=120)
    hub.settle()
    hub.heal()
    assert client.returncode == -signal.SIGKILL and hub.files(NAME) in (old, new)
    assert attempt(folder) is None
    assert hub.files(NAME) == new and hub.branches(NAME).keys() == {"main"}


def test_a_client_that_is_killed_as_main_moves_leaves_it_whole(hub, folder):
    steps = count_requests(hub, folder)
    kill_at(hub, folder, steps - 2, "applied")


@pytest.mark.slow
@pytest.mark.parametrize("tenth", range(10))
def test_a_client_can_be_killed_at_any_request(hub, folder, tenth):
    steps = count_requests(hub, folder)
    kill_at(hub, folder, tenth * (steps - 1) // 9, ("before", "request", "applied", "answer")[tenth % 4])


def test_the_proof_comes_between_the_upload_and_the_move(hub, folder, monkeypatch):
    """Whatever the proof says no to, main stays; the branch that it was tried on goes."""
    old = make_old(hub)

    def refuse(expected, name, revision, home):
        assert (
            hub.files(NAME) == old and hub.files(NAME, revision)["config.json"] == (folder / "config.json").read_bytes()
        )
        raise InputError("the proof failed: it does not load without trivium: no")

    monkeypatch.setattr(pushing, "prove", refuse)
    with pytest.raises(InputError, match="does not load without trivium: no; nothing was published"):
        push(folder, NAME)
    assert hub.files(NAME) == old and hub.branches(NAME).keys() == {"main"}
