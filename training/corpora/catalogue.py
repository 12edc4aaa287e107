"""Everything that `trivium fetch` can get, by name."""

from . import addresses, bible, brown, debian, dialogues, human_ratings, libreoffice, manual, movie_snippets, wordnet
from .checkpoints import CHECKPOINTS
from .corpus import Corpus

_MODULES = (movie_snippets, debian, addresses, brown, manual, libreoffice, bible, wordnet, human_ratings, dialogues)

CORPORA: dict[str, Corpus] = {name: corpus for module in _MODULES for name, corpus in module.CORPORA.items()}

__all__ = ["CHECKPOINTS", "CORPORA"]
