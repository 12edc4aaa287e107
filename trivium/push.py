"""Push a checkpoint to the Hub, and prove there that it loads with Trivium and without it before anyone sees it.

    trivium push out/decoder me/my-decoder                       to main
    trivium push out/decoder/checkpoint-1000 me/my-decoder --revision step-1000
    trivium push out/decoder me/my-decoder --dry-run             lists and proves what would be pushed, sends nothing

Weights in safetensors, the code, tokenizer and card go up; what else is in the folder stays. The access token is that
of `hf auth login` or HF_TOKEN. A push that failed goes on where it stopped when it is called again.
"""

import argparse
import sys
from pathlib import Path

from .model_cards.push import MAIN, check_names, prepare, publish, rehearse
from .training.verbs import run


def main(argv: list[str] | None = None) -> int:
    """`trivium push`: returns 0; raises `InputError` for whatever the user can mend."""
    parser = argparse.ArgumentParser(
        prog="trivium push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the model was saved")
    parser.add_argument("name", metavar="REPO_ID", help="of the repository: owner/name, or a name of your own")
    parser.add_argument("--revision", default=MAIN, help="branch to push to; default: main")
    parser.add_argument("--private", action="store_true", help="only those with access see it")
    parser.add_argument("--dry-run", action="store_true", help="send nothing")
    parser.add_argument("--no-proof", action="store_true", help="compare what arrived byte for byte, load nothing")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code in FOLDER that is not Trivium's")
    parser.add_argument("--timeout", type=float, default=120, help="seconds to wait for the Hub; default: 120")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    check_names(args.name, args.revision)
    plan = prepare(args.folder, args.name, load=not args.no_proof, trust=args.trust_remote_code)
    print("\n".join(plan.sentences()))
    if args.dry_run:
        print(f"{rehearse(plan)}\nNothing was sent.")
        return 0
    pushed = publish(plan, args.name, revision=args.revision, private=args.private, timeout=args.timeout)
    print(pushed.proof)
    for note in pushed.notes:
        print(f"note: {note}")
    print(f"Pushed to {pushed.url}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
