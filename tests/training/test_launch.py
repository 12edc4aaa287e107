"""The launch files, read as accelerate reads them: keys that it does not know it drops or keeps for nobody."""

import re
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType

LAUNCH = Path(__file__).resolve().parents[2] / "training" / "launch"
FILES = sorted(LAUNCH.glob("*.yaml"))
KINDS = {
    "ddp": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "tensor-parallel": DistributedType.MULTI_GPU,
    "zero": DistributedType.DEEPSPEED,
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_launch_file_says_only_what_accelerate_understands(file):
    config = ClusterConfig.from_yaml_file(file)  # refuses keys that it does not know at the top
    kind = next(kind for prefix, kind in KINDS.items() if file.stem.startswith(prefix))
    together = config.parallelism_config.get("parallelism_config_tp_size")
    assert (config.distributed_type, config.mixed_precision) == (kind, "bf16")
    assert config.num_processes == (together or 8) and bool(together) == (file.stem == "tensor-parallel")
    options = vars(launch_command_parser().parse_args(["script"]))
    inner = [*config.fsdp_config, *config.deepspeed_config, *config.parallelism_config]
    assert [key for key in inner if key not in options] == []
    assert bool(config.fsdp_config) == (kind == DistributedType.FSDP)


def test_the_check_sees_a_wrong_key():
    options = vars(launch_command_parser().parse_args(["script"]))
    assert "fsdp_activation_checkpointing" in options and "fsdp_activation_checkpoint" not in options


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_launch_file_shows_the_command_that_takes_it(file):
    text = file.read_text(encoding="utf-8")
    (named,) = re.findall(r"--config_file training/launch/(\S+) -m trivium.training.pretrain", text)
    assert named == file.name


def test_fsdp_files_differ_in_what_their_names_say():
    plain = yaml.safe_load((LAUNCH / "fsdp2.yaml").read_text(encoding="utf-8"))
    for name, key in (("checkpointing", "fsdp_activation_checkpointing"), ("offload", "fsdp_offload_params")):
        other = yaml.safe_load((LAUNCH / f"fsdp2-{name}.yaml").read_text(encoding="utf-8"))
        assert other.pop("fsdp_config") == plain["fsdp_config"] | {key: True}
        assert other == {name: value for name, value in plain.items() if name != "fsdp_config"}
