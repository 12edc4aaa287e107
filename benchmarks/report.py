"""What benchmarks share: their options, and what they leave, JSON and a Markdown section of the documentation."""

import argparse
import json
import math
import os
import platform
import re
import resource
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

PROCESS = Path("/proc/self/status")


def option_parser(description: str | None, section: str, repetitions: int | None) -> argparse.ArgumentParser:
    """A parser of the options that every benchmark takes, whose tables go into `section`; some run once (`None`)."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if repetitions is not None:
        parser.add_argument("--repetitions", type=int, default=repetitions)
    parser.add_argument("--quick", action="store_true", help="toy sizes: shows that it runs, measures nothing")
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--write", type=Path, help=f"file whose section `{section}` gets the tables")
    parser.add_argument("--section", help="another section of that file, and the name of what else is left")
    return parser


def machine(device: str = "cpu") -> dict[str, str | int]:
    """Where and with what a measurement was made."""
    name = torch.cuda.get_device_name() if device == "cuda" else _cpu_name()
    return {
        "date": date.today().isoformat(),
        "device": name,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "load before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def forget_compiled() -> None:
    """Lets `torch.compile` begin anew, and make as many graphs as several models need."""
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = 64  # all models of transformers share one decorator's: 8 are soon used up


def take_turns(steps: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of every repetition of each way, which take turns; one of each before goes uncounted."""
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    for repetition in range(repetitions + 1):
        for way, step in steps.items():
            started = time.perf_counter()
            step()
            if repetition:
                seconds[way].append(time.perf_counter() - started)
    return seconds


def peak_resident() -> float:
    """Megabytes that this process has held at most, since it started."""
    if PROCESS.exists():  # on Linux ru_maxrss begins with what the parent held
        return _of_process("VmHWM")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def own_memory() -> float:
    """Megabytes that this process holds now and that are no pages of files; not a number where no one says."""
    return _of_process("RssAnon") if PROCESS.exists() else math.nan


def _of_process(name: str) -> float:
    (kilobytes,) = (line.split()[1] for line in PROCESS.read_text().splitlines() if line.startswith(name))
    return int(kilobytes) / 2**10


def describe(where: dict) -> str:
    """`machine()` in one sentence, with the command that was run."""
    command = "python -m " + shlex.join(_command())
    return (
        f"Measured {where['date']} with `{command}` on {where['device']}, {where['cores']} cores, {where['threads']} "
        f"threads (load average before the start {where['load before']}); Python {where['python']}, torch "
        f"{where['torch']}, transformers {where['transformers']}."
    )


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose numbers stand to the right."""
    head = [columns, ["---" if i == 0 else "---:" for i in range(len(columns))]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*head, *rows])


def folded(title: str, text: str) -> str:
    """A part of a page that opens when one asks for it."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def save_json(path: Path, content: dict) -> None:
    """Writes `content`, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def place(options: argparse.Namespace, name: str, section: str) -> tuple[str, str]:
    """What files are called and which section gets the tables: as usual, or as `--section` says."""
    if options.section is None:
        return name, section
    return re.sub(r"\W+", "-", options.section.replace(" on ", " ")), options.section


def publish(options: argparse.Namespace, name: str, section: str, results: dict, text: str) -> None:
    """Prints the tables, saves the results as `name`.json, and writes the tables into `section` if that was asked."""
    print(text)
    name, section = place(options, name, section)
    save_json(options.output / f"{name}.json", results)
    if options.write:
        write_section(options.write, section, text)


def write_section(path: Path, name: str, text: str) -> None:
    """Puts `text` between the lines `<!-- name -->` and `<!-- /name -->` of a file.

    Raises:
        SystemExit: the file has no such section.
    """
    before, start, rest = path.read_text().partition(f"<!-- {name} -->\n")
    _, stop, after = rest.partition(f"<!-- /{name} -->")
    if not start or not stop:
        sys.exit(f"{path} has no section <!-- {name} --> ... <!-- /{name} -->")
    path.write_text(f"{before}{start}{text}\n{stop}{after}")


def _command() -> list[str]:
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return [module.name if module else Path(sys.argv[0]).stem, *sys.argv[1:]]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} (model {fields.get('model', '?')}; {', '.join(flags)})"
