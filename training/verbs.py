"""What every verb of the command line shares: errors that a user can mend end in one sentence and an exit code."""

import errno
import os
import sys
from collections.abc import Callable, Iterator

from ..configuration.errors import InputError
from .stopping import STOPPED, Stopped

# Optional libraries that a verb imports when it needs them, and the extra of `pip install trivium[...]` that has them.
EXTRAS = {"accelerate": "train", "datasets": "train", "gguf": "gguf", "peft": "peft", "tensorboard": "train"}
EXTRAS |= dict.fromkeys(("evaluate", "rouge_score", "sacrebleu", "scipy", "seqeval", "sklearn"), "finetune")
EXTRAS |= {"yaml": "train", "codecarbon": "emissions", "deepspeed": "deepspeed", "matplotlib": "plot"}

# A disk or a quota is full, or files may not be as large. Rust libraries (safetensors, tokenizers) keep the system's
# words and drop its error number; torch's archive writer says only that it stands at another position than it should.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_DISK_WORDS = (*map(os.strerror, FULL_DISK), "unexpected pos ")

BAD_INPUT = 2
INTERRUPTED = 130


def run(main: Callable[[list[str]], int | None], argv: list[str] | None = None) -> int:
    """Call a verb and turn what a user can mend into one sentence on stderr.

    Args:
        main: the verb; it takes the arguments and returns an exit code, or `None` for success.
        argv: the arguments; `None` = those of the process.

    Returns:
        The exit code: that of `main`, 2 for bad input, a missing optional library or a full disk, 130 for Ctrl-C, 143
        for SIGTERM after a checkpoint was saved.
        Every other exception is a bug and keeps its traceback.
    """
    try:
        return main(sys.argv[1:] if argv is None else argv) or 0
    except Stopped as stopped:
        print(f"trivium: {stopped}", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("trivium: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(f"trivium: error: {sentence}", file=sys.stderr)
        return BAD_INPUT


def _sentence(error: Exception) -> str | None:
    """What to tell the user, or `None` where the error is ours."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f'{error.name} is not installed; get it with: pip install "trivium[{EXTRAS[error.name]}]"'
    full = next((link for link in _chain(error) if _is_full_disk(link)), None)
    if full is not None:
        where = f" for {full.filename}" if isinstance(full, OSError) and full.filename else ""
        return f"no space left on the device{where}; free some, or write to another one"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it was raised from: libraries wrap what the system said."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return True
    return any(words in str(error) for words in FULL_DISK_WORDS)
