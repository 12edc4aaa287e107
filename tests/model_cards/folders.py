"""Folders of checkpoints, made in a moment: a tiny model with its tokenizer, and what a run would have recorded."""

import functools
import json
import shutil
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.families import LM_HEADS, make_model

HEADS = {head.family.replace("_", "-"): head for head in LM_HEADS}
SPECIAL = dict(pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]", mask_token="[MASK]")
SENTINELS = ["<extra_id_0>", "<extra_id_1>"]
COMMAND = "trivium pretrain --config decoder-tiny"


def tokenizer() -> PreTrainedTokenizerFast:
    words = [*SPECIAL.values(), *SENTINELS, "This", "is", "a", "sentence", "."]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, extra_special_tokens=SENTINELS, **SPECIAL)


def record(family: str = "decoder", **changes) -> dict:
    """What a finished run writes of itself."""
    settings = dict(learning_rate=0.01, lr_scheduler_type="cosine", warmup_steps=0.05, rows_per_step=8, seed=42)
    source = dict(name="data", data=["org/texts"], kind="hub", split="train", config=None, license="cc-by-4.0")
    source |= dict(
        documents=10, bytes=2_000_000, held_out_documents=2, held_out_bytes=500, tokens=900, languages=["en"]
    )
    made = dict(
        metrics=dict(parameters=1, steps=20, tokens=1234, flops=10**12, seconds=200.0),
        pretraining=dict(family=family, objective=None, max_length=32, mlm_probability=0.3, noise_density=0.15),
        settings=settings | dict(optim="adamw_torch_fused", muon=False, weight_decay=0.1),
        versions=dict(trivium="0.1.0", torch="2.13.0"),
        machine=dict(processor="CPU, 2 threads", processes=2),
        command=COMMAND,
        recipe=dict(family=family, max_steps=20),
        data=[source],
        ended="2026-11-22T10:00:00+00:00",
    )
    made["metrics"] |= dict(held_out_bits_per_byte_unigram=2.9, held_out_bits_per_byte_before=3.3)
    made["pretraining"] |= dict(mean_span_length=3.0, noises=[], fim_rate=0.5)
    return made | changes


def log(steps: int = 20) -> list[dict]:
    """What `Trainer` logs."""
    entries: list[dict] = [{"step": 0, "eval_loss": 5.0}]
    entries += [{"step": step, "loss": 5 - step / 10, "learning_rate": 0.01 / step} for step in range(2, steps + 1, 2)]
    measured = {
        "eval_bits_per_byte": 2.25,
        "eval_perplexity": 90.5,
        "eval_predicted_tokens": 77,
        "eval_predicted_bytes": 99,
    }
    return [*entries, {"step": steps, "eval_loss": 4.5, **measured}]


@functools.cache
def _saved(family: str) -> tempfile.TemporaryDirectory:
    folder = tempfile.TemporaryDirectory()
    make_model(HEADS[family]).save_pretrained(folder.name)
    Path(folder.name, "README.md").unlink()  # the tests write their own
    tokenizer().save_pretrained(folder.name)
    return folder


def save(folder: Path, family: str = "decoder", recorded: dict | None = None, logged: list | None = None) -> Path:
    """A checkpoint with its tokenizer and what was recorded."""
    shutil.copytree(_saved(family).name, folder, dirs_exist_ok=True)
    if recorded is not None:
        (folder / "trivium_run.json").write_text(json.dumps(recorded))
    if logged is not None:
        state = {"global_step": 20, "max_steps": 20, "log_history": logged}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder
