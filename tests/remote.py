"""Run as a script where Trivium cannot be imported: loads checkpoints by the code that they carry, and uses them.

    python tests/remote.py FOLDER

Each sub-folder of FOLDER holds `job.pt` with the Auto class and keyword arguments of forward and, for those who write,
of `generate`; with a `text` that the tokenizer there takes apart, or without; and `checkpoint/`, or the job has the
`name` of a repository on the Hub. It gets `outputs.pt`, and the checkpoint saved once more as `again/`.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers


def forget_trivium() -> None:
    """Makes `import trivium` fail in this process."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
    sys.path[:] = [path for path in sys.path if not Path(path, "trivium").is_dir()]
    assert find_spec("trivium") is None and "trivium" not in sys.modules


@torch.no_grad()
def use(folder: Path) -> None:
    """Does one job."""
    job = torch.load(folder / "job.pt")
    auto, source = getattr(transformers, job["auto"]), job.get("name", folder / "checkpoint")
    model = auto.from_pretrained(source, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    outputs = dict(model(**job["forward"]).items())
    found = {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
    if job["generate"] is not None:
        found["generated"] = model.generate(**job["generate"])
    if "text" in job:
        found["tokens"] = transformers.AutoTokenizer.from_pretrained(source)(job["text"])["input_ids"]
    torch.save(found, folder / "outputs.pt")
    model.save_pretrained(folder / "again")


if __name__ == "__main__":
    forget_trivium()
    for place in sorted(Path(sys.argv[1]).iterdir()):
        use(place)
