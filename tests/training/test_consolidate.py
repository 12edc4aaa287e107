import json
import re

import pytest
import torch
import torch.distributed.checkpoint as distributed_checkpoint
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from tests.families import LM_HEADS, distance, draw_texts, main_outputs, make_model, padded
from trivium.configuration import InputError
from trivium.training.consolidate import main

PARTS = "pytorch_model_fsdp_0"


def in_parts(model, folder):
    """As FSDP2 saves with SHARDED_STATE_DICT, tied weights under all their names."""
    distributed_checkpoint.save({"model": model.state_dict()}, checkpoint_id=folder / PARTS, no_dist=True)


def in_one_file(model, folder):
    torch.save(model.state_dict(), folder / "pytorch_model_fsdp.bin")


def described(model, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    return folder


@pytest.fixture
def decoder():
    return make_model(next(head for head in LM_HEADS if head.family == "decoder"))


@pytest.mark.parametrize("save", [in_parts, in_one_file])
@pytest.mark.parametrize("variant", ["plain", "transform"])
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_parts_become_a_model_that_loads_and_writes_the_same(head, variant, save, tmp_path):
    model = make_model(head, variant)
    save(model, described(model, tmp_path / "checkpoint-7"))
    assert main([str(tmp_path / "checkpoint-7"), str(tmp_path / "whole")]) == 0
    loaded, notes = head.model.from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not notes["missing_keys"] and not notes["unexpected_keys"]
    batch = padded(draw_texts(head, model.config))
    assert distance(main_outputs(loaded.eval()(**batch)), main_outputs(model(**batch))) == 0.0
    model.save_pretrained(tmp_path / "expected")
    assert (
        load_file(tmp_path / "whole/model.safetensors").keys()
        == load_file(tmp_path / "expected/model.safetensors").keys()
    )


def test_configuration_and_tokenizer_come_from_the_run_or_from_where_is_said(
    decoder, tokenizers, tmp_path, tmp_path_factory
):
    run = described(decoder, tmp_path / "run")
    tokenizers["decoder"].save_pretrained(run)
    (run / "checkpoint-3").mkdir()
    in_parts(decoder, run / "checkpoint-3")
    main([str(run / "checkpoint-3"), str(run / "checkpoint-3")])
    assert AutoTokenizer.from_pretrained(run / "checkpoint-3").get_vocab() == tokenizers["decoder"].get_vocab()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "parts"
    (run / "checkpoint-3" / PARTS).rename(elsewhere)
    (tmp_path / "bare" / "checkpoint-3").mkdir(parents=True)
    elsewhere.rename(tmp_path / "bare" / "checkpoint-3" / PARTS)
    with pytest.raises(InputError, match="name the folder that has it with --config"):
        main([str(tmp_path / "bare" / "checkpoint-3"), str(tmp_path / "whole")])
    main([str(tmp_path / "bare" / "checkpoint-3"), str(tmp_path / "whole"), "--config", str(run)])
    assert type(AutoModel.from_pretrained(tmp_path / "whole")).__name__ == "TriviumDecoderModel"


def test_a_whole_checkpoint_is_said_to_be_one(decoder, tmp_path):
    decoder.save_pretrained(tmp_path / "checkpoint-1")
    with pytest.raises(InputError, match=r"is whole already, AutoModel.from_pretrained loads it\.$"):
        main([str(tmp_path / "checkpoint-1"), str(tmp_path / "whole")])
    in_parts(decoder, tmp_path / "checkpoint-1")
    with pytest.raises(InputError, match="--parts reads its parts all the same"):
        main([str(tmp_path / "checkpoint-1"), str(tmp_path / "whole")])
    assert not (tmp_path / "whole").exists()
    assert main([str(tmp_path / "checkpoint-1"), str(tmp_path / "whole"), "--parts"]) == 0


def without_metadata(folder):
    (folder / PARTS / ".metadata").unlink()


def truncated(folder):
    for part in (folder / PARTS).glob("*.distcp"):
        part.write_bytes(part.read_bytes()[:100])


def wider(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 64}))


def of_someone_else(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["LlamaForCausalLM"]}))


def without_parts(folder):
    (folder / PARTS).rename(folder.parent / "gone")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without_metadata, "lacks .metadata: its save was interrupted"),
        (truncated, "cannot be put together, broken or of another shape"),
        (wider, "cannot be put together, broken or of another shape"),
        (of_someone_else, "names no model class of Trivium: 'LlamaForCausalLM'"),
        (without_parts, "holds no weights that FSDP or DeepSpeed saved"),
    ],
)
def test_what_cannot_be_put_together_is_said_and_nothing_is_written(spoil, sentence, decoder, tmp_path):
    folder = described(decoder, tmp_path / "checkpoint-2")
    in_parts(decoder, folder)
    spoil(folder)
    with pytest.raises(InputError, match=re.escape(sentence)):
        main([str(folder), str(tmp_path / "whole")])
    assert not (tmp_path / "whole").exists()


def test_a_run_instead_of_its_checkpoint_is_answered_with_the_last(decoder, tmp_path):
    in_parts(decoder, described(decoder, tmp_path / "checkpoint-2"))
    with pytest.raises(InputError, match="one of those in it, for example checkpoint-2"):
        main([str(tmp_path), str(tmp_path / "whole")])
    with pytest.raises(InputError, match="does not exist"):
        main([str(tmp_path / "none"), str(tmp_path / "whole")])
