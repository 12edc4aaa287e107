"""Packages of a few dozen entries, unpacked, in place of the real ones."""

import pytest

from tests.training.corpora.miniatures import make_all
from trivium.training.corpora.packages import Package


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The folder of each package by what its client would be asked for."""
    return make_all(tmp_path_factory)


@pytest.fixture
def packages(folders):
    """Gives the packages of a corpus as a cache would."""

    def give(corpus):
        return [Package(source, "1.0", folders[source.requirement]) for source in corpus.sources]

    return give
