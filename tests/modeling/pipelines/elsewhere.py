"""Run as a script where Trivium cannot be imported: uses checkpoints through `pipeline`, by the code that they carry.

    python elsewhere.py JOBS

JOBS is a JSON list of task, checkpoint, input and arguments; what comes out is printed as a JSON list.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import remote

remote.forget_trivium()

from transformers import pipeline  # noqa: E402

results = []
for task, checkpoint, inputs, arguments in json.loads(Path(sys.argv[1]).read_text()):
    pipe = pipeline(task, model=checkpoint, trust_remote_code=True)
    assert type(pipe.model).__module__.startswith("transformers_modules."), type(pipe.model).__module__
    results.append(pipe(inputs, **arguments))
    pipe.save_pretrained(checkpoint + "-again")
print(json.dumps(results, default=float))
