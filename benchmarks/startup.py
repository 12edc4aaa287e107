"""How long `import trivium` takes, beside what any program pays that loads a model of transformers.

    python -m benchmarks.startup --write docs/performance.md

Each repetition is an interpreter of its own; the ways take turns.
"""

import subprocess
import sys
from statistics import median

from . import report

WAYS = {
    "nothing": "pass",
    "torch": "import torch",
    "transformers, a lazy module": "import transformers",
    "transformers, with a model": "from transformers import LlamaForCausalLM",
    "trivium": "import trivium",
}
COLUMNS = ["imported", "seconds (range)", "above a model of transformers"]


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    options = report.option_parser(__doc__, "start-up", repetitions=9).parse_args(arguments)
    where, rows = report.machine(), []
    steps = {
        way: lambda code=code: subprocess.run([sys.executable, "-c", code], check=True) for way, code in WAYS.items()
    }
    seconds = report.take_turns(steps, 1 if options.quick else options.repetitions)
    model = seconds["transformers, with a model"]
    for way, values in seconds.items():
        above = median(one - other for one, other in zip(values, model, strict=True))
        rows.append([way, f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})", f"{above:+.2f}"])
    text = f"{report.describe(where)}\n\n{report.table(COLUMNS, rows)}"
    report.publish(options, "startup", "start-up", {"machine": where, "seconds": seconds}, text)


if __name__ == "__main__":
    main()
