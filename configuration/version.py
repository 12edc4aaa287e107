"""Which Trivium this is, and what it needs."""

from importlib import metadata

from packaging.version import Version

__version__ = "0.1.0"
OLDEST_TRANSFORMERS = "5.17"
TESTED_TRANSFORMERS = "5.23"


def require_transformers() -> None:
    """Raises `ImportError` in one sentence if transformers is older than the models of this version can run on."""
    found = metadata.version("transformers")
    if Version(found) < Version(OLDEST_TRANSFORMERS):
        raise ImportError(
            f"this Trivium {__version__} model needs transformers {OLDEST_TRANSFORMERS} or newer, not {found}: run "
            "`pip install --upgrade transformers`."
        )


def find_mismatch(trivium: str | None, transformers: str | None) -> str | None:
    """What may go wrong with a checkpoint that these versions wrote, in a sentence; `None` = nothing is known to."""
    if trivium and Version(trivium).release[:2] > Version(__version__).release[:2]:
        return (
            f"the checkpoint was written by Trivium {trivium}, and {__version__} is running, which may misread it: "
            "run `pip install --upgrade trivium`."
        )
    found = metadata.version("transformers")
    if transformers and Version(found).major != Version(transformers).major:
        return (
            f"the checkpoint was written with transformers {transformers}, and Trivium {__version__} was tested up to "
            f"{TESTED_TRANSFORMERS}, but {found} is running: compare some outputs before you rely on them."
        )
    return None
