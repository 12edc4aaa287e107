"""Loads a checkpoint and notes what it computes: a module of the package, and the script that a proof runs.

    python load_and_ask.py FOLDER

FOLDER holds `job.json`, the fields of [`Job`], and `inputs.pt`; it gets `answer.pt`. The script imports nothing of
Trivium but what the job asks for, so that it also runs where Trivium cannot be imported.
"""

import inspect
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

# Letters with and without accents, other scripts, numbers, spaces: what tokenizers treat in ways of their own.
TEXTS = ("The quick brown fox, 1234.5 times.", "  où l'été naît\n\tça et là", "Ωμέγα 東京 🙂", "")


@dataclass(frozen=True)
class Job:
    """What to load, and how.

    Attributes:
        name: a folder, or a name on the Hub that the cache has.
        revision: the commit, for a name on the Hub.
        auto: the Auto class of transformers.
        tokenizer: whether there is one.
        base: for an adapter of PEFT, the folder of its base model.
        labels: for an adapter with a classifier, how many classes that tells apart: the base model need not have one.
        trust: whether the code that comes with the checkpoint may run.
        package: the folder that holds Trivium, to import it first; `None` = make it impossible to import.
        module: what the name of the module that defines the model must begin with.
        threads: how many compute, which sums may depend on.
    """

    name: str
    revision: str | None
    auto: str
    tokenizer: bool
    base: str | None
    trust: bool
    package: str | None = None
    module: str = ""
    threads: int = 1
    labels: int | None = None


def load(job: Job) -> tuple[Any, Any]:
    """The model in evaluation mode, in the type it was saved in, and its tokenizer or `None`.

    Raises:
        ValueError: weights are missing, or the code that runs is not the one that should.
    """
    where = {"revision": job.revision} if job.revision else {}
    auto, options = getattr(transformers, job.auto), {"trust_remote_code": job.trust, "dtype": "auto"}
    if job.base is None:
        model, info = auto.from_pretrained(job.name, output_loading_info=True, **options, **where)
        if info["missing_keys"]:
            raise ValueError(f"there are no weights for {sorted(info['missing_keys'])[0]}")
    else:
        from peft import PeftModel

        labels = {"num_labels": job.labels} if job.labels else {}
        model = PeftModel.from_pretrained(auto.from_pretrained(job.base, **options, **labels), job.name, **where)
    defined_in = type(model.get_base_model() if job.base else model).__module__
    if not defined_in.startswith(job.module):
        raise ValueError(f"the model's code is {defined_in}, not {job.module}")
    options = {"trust_remote_code": job.trust, **where}
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.name, **options) if job.tokenizer else None
    return model.eval(), tokenizer


@torch.no_grad()
def ask(model: Any, tokenizer: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Every tensor that the model computes from each of the inputs, by its name, and the ids of `TEXTS`."""
    answer: dict[str, Any] = {}
    for number, batch in enumerate(inputs):
        for name, value in model(**batch, return_dict=True).items():
            if isinstance(value, torch.Tensor):
                answer[f"{name} {number}"] = value.contiguous()
    answer["tokens"] = [] if tokenizer is None else [tokenizer(text)["input_ids"] for text in TEXTS]
    return answer


def draw_inputs(model: Any, config: Any, rows: int, length: int, seed: int = 0) -> list[dict[str, Any]]:
    """Random tokens for a model of any head, a batch of one text at a time: not every model can tell padding."""
    generator = torch.Generator().manual_seed(seed)
    taken = inspect.signature(model.forward).parameters
    vocab = min(config.get_text_config().vocab_size, model.get_input_embeddings().num_embeddings)
    shape = (1, 2, length) if "MultipleChoice" in type(model).__name__ else (1, length)

    def draw() -> torch.Tensor:
        ids = torch.randint(0, vocab, shape, generator=generator)
        if isinstance(end := getattr(config, "eos_token_id", None), int) and end < vocab:
            ids[ids == end] = (end + 1) % vocab
            ids[..., -1] = end  # where some models look for what a text is
        return ids

    names = ("input_ids", *(("decoder_input_ids",) if "decoder_input_ids" in taken else ()))
    cache = {"use_cache": False} if "use_cache" in taken else {}
    batches = [{name: draw() for name in names} for _ in range(rows)]
    return [batch | {"attention_mask": torch.ones_like(batch["input_ids"])} | cache for batch in batches]


def main(folder: Path) -> None:
    """Does the job in `folder`."""
    job = Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    if job.package is None:
        sys.modules["trivium"] = None  # type: ignore[assignment]  # what Python takes for a module that is not there
    else:
        sys.path.insert(0, job.package)
        __import__("trivium")
    torch.set_num_threads(job.threads)
    answer = ask(*load(job), torch.load(folder / "inputs.pt"))
    torch.save(answer, folder / "answer.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
