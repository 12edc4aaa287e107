"""`python -m trivium` does what the `trivium` command does."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
