import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.utils import DistributedType

from tests.families import LM_HEADS, make_model
from trivium.configuration import InputError
from trivium.training.sharded import check_resumable, prepare_for_sharding, running_under, saved_under


def accelerator(engine: str, processes: int = 2, checkpointing: bool = False):
    """What is asked of an Accelerator, under an engine as [`saved_under`] names it."""
    kind = "SHARDED_STATE_DICT" if engine == "FSDP" else "FULL_STATE_DICT"
    kinds = {"FSDP": DistributedType.FSDP, "FSDP in one file": DistributedType.FSDP}
    state = SimpleNamespace(
        fsdp_plugin=SimpleNamespace(state_dict_type=f"StateDictType.{kind}", activation_checkpointing=checkpointing),
        deepspeed_plugin=SimpleNamespace(deepspeed_config={"zero_optimization": {"stage": 3}}),
    )
    kinds |= {"DeepSpeed": DistributedType.DEEPSPEED, "no engine": DistributedType.MULTI_GPU}
    return SimpleNamespace(distributed_type=kinds[engine], state=state, num_processes=processes)


FILES = {
    "FSDP": ["pytorch_model_fsdp_0/.metadata"],
    "FSDP in one file": ["pytorch_model_fsdp.bin"],
    "DeepSpeed": [f"global_step4/bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(2)],
    "no engine": ["optimizer.pt"],
}


def checkpoint(folder: Path, engine: str, whole: bool = True) -> Path:
    for name in FILES[engine] + ["model.safetensors"] * whole:
        os.makedirs((folder / name).parent, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("runs", FILES)
@pytest.mark.parametrize("saved", FILES)
def test_a_run_goes_on_only_under_the_engine_that_saved(saved, runs, tmp_path):
    folder = checkpoint(tmp_path, saved)
    assert saved_under(folder) == saved and running_under(accelerator(runs)) == runs
    if saved == runs:
        check_resumable(folder, accelerator(runs))
        return
    with pytest.raises(InputError, match=f"was saved under {saved}, but this run is under {runs}: .*--model_name_or"):
        check_resumable(folder, accelerator(runs))


def test_what_to_do_with_a_checkpoint_in_parts_alone_is_said(tmp_path):
    with pytest.raises(InputError, match="make it whole with `trivium consolidate`"):
        check_resumable(checkpoint(tmp_path, "FSDP", whole=False), accelerator("no engine"))


def test_deepspeed_needs_as_many_processes_as_saved(tmp_path):
    folder = checkpoint(tmp_path, "DeepSpeed")
    check_resumable(folder, accelerator("DeepSpeed", 2))
    with pytest.raises(InputError, match="saved by 2 processes of DeepSpeed, which cannot go on as 3"):
        check_resumable(folder, accelerator("DeepSpeed", 3))


@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_dropout_that_would_be_drawn_twice_is_refused_and_what_to_do_is_said(head):
    model = make_model(head, attention_dropout=0.25)
    with pytest.raises(InputError, match=r"`attention_dropout` is 0\.25.*--gradient_checkpointing true"):
        prepare_for_sharding(accelerator("FSDP", checkpointing=True), model)
    prepare_for_sharding(accelerator("FSDP"), model)
    prepare_for_sharding(accelerator("FSDP", checkpointing=True), make_model(head, embedding_dropout=0.25))


def test_a_shared_table_becomes_one_module_and_two_tables_stay_two():
    head = next(head for head in LM_HEADS if head.family == "encoder_decoder")
    for variant, shared in (("plain", True), ("own-embeddings", False)):
        model = make_model(head, variant)
        names = model.state_dict().keys()
        prepare_for_sharding(accelerator("FSDP"), model)
        assert (model.get_encoder().embed_tokens is model.get_decoder().embed_tokens) == shared
        assert model.state_dict().keys() == names


def test_a_save_under_zero_holds_the_weights():
    under = accelerator("DeepSpeed")
    prepare_for_sharding(under, make_model(LM_HEADS[0]))
    settings = under.state.deepspeed_plugin.deepspeed_config["zero_optimization"]
    assert settings == {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}
