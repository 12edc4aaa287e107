"""What of a folder is uploaded: parts of a checkpoint, and never a pickle, a secret, or what lies elsewhere."""

import pytest

from trivium.configuration.errors import InputError
from trivium.model_cards.contents import is_stale, survey

PARTS = [
    *("README.md", "config.json", "generation_config.json", "model-00001-of-00002.safetensors", "modeling_trivium.py"),
    *("model.safetensors", "tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"),
    *(
        "vocab.txt",
        "merges.txt",
        "spiece.model",
        "chat_template.jinja",
        "assets/loss.png",
        "LICENSE",
        "1_Pooling/config.json",
    ),
]
PICKLES = ["optimizer.pt", "pytorch_model.bin", "rng_state.pth", "training_args.bin", "model.ckpt", "data.pkl", "x.npy"]
SECRETS = [".env", "prod.env", "hf_token.json", "token", "credentials.json", "server.pem", "api_key.json", ".netrc"]
OTHERS = [
    *("trainer_state.json", "trivium_run.json", "checkpoint-10/model.safetensors", "runs/events.out.tfevents.1"),
    *(
        ".git/config",
        ".saving/model.safetensors",
        "train.log",
        "notes.txt",
        "wandb/run.json",
        "model.gguf",
        "card.yaml",
    ),
]


def fill(folder, *names, text="{}"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "model", "config.json", "model.safetensors")


def test_the_parts_of_a_checkpoint_go_and_all_else_stays_and_is_said(folder):
    contents = survey(fill(folder, *PARTS, *PICKLES, *SECRETS, *OTHERS))
    assert contents.files == dict.fromkeys(sorted(PARTS), 2) and contents.size == 2 * len(PARTS)
    said = "\n".join(contents.sentences())
    for name in [*PICKLES, *SECRETS, *OTHERS]:
        assert any(name == path or name.startswith(path) for path in contents.left_out), name
    assert "pickles, which can run code" in said and "and 2 more" in said


@pytest.mark.parametrize("name", PICKLES)
def test_each_pickle_is_called_one(folder, name):
    assert "pickles" in survey(fill(folder, name)).left_out[name]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "holds no config.json"),
        (["config.json"], "no weights in safetensors: load the model"),
        (["config.json", "pytorch_model.bin"], "but pytorch_model.bin: pickles are never uploaded"),
        (["config.json", "checkpoint-5/model.safetensors"], "no weights in safetensors"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, names, words):
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match=words):
        survey(fill(tmp_path / "model", *names))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere' is no folder"):
        survey(tmp_path / "nowhere")


def test_a_missing_shard_is_named(folder):
    fill(folder, "model.safetensors.index.json", text='{"weight_map": {"a": "model-2.safetensors"}}')
    with pytest.raises(InputError, match=r"lacks model-2\.safetensors"):
        survey(folder)


@pytest.mark.parametrize("kind", ["file", "folder", "dangling"])
def test_links_out_of_the_folder_are_refused(folder, tmp_path, kind):
    fill(tmp_path, "elsewhere/config.json")
    target = {"file": "elsewhere/config.json", "folder": "elsewhere", "dangling": "nowhere"}[kind]
    name = "assets" if kind == "folder" else "generation_config.json"
    (folder / name).symlink_to(tmp_path / target)
    with pytest.raises(InputError, match="is a link out of the folder"):
        survey(folder)
    (folder / name).unlink()
    (folder / "optimizer.pt").symlink_to(tmp_path / target)
    (folder / "generation_config.json").symlink_to("config.json")
    assert survey(folder).files.keys() == {"config.json", "generation_config.json", "model.safetensors"}


@pytest.mark.parametrize("secret", ["hf_" + "a1B2" * 9, "ghp_" + "x9" * 18, "-----BEGIN RSA PRIVATE KEY-----"])
@pytest.mark.parametrize("name", ["README.md", "config.json", "tokenizer.json"])
def test_a_secret_in_a_file_is_refused_and_not_repeated(folder, name, secret):
    with pytest.raises(InputError, match=f"{name}' holds what looks like an access token") as error:
        survey(fill(folder, name, text=f'{{"a": "{secret}"}}'))
    assert secret not in str(error.value)


def test_what_others_added_on_the_hub_stays_and_what_would_load_goes():
    gone = ["pytorch_model.bin", "model-00002-of-00002.safetensors", "adapter_config.json", "modeling_old.py"]
    kept = ["LICENSE", "model.gguf", ".gitattributes", "onnx/model.onnx", "runs/x.bin", "notes.txt"]
    assert all(map(is_stale, gone)) and not any(map(is_stale, kept))
