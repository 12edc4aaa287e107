"""docs/architectures.md says what the configuration says, and that nothing differs from its reference."""

import re
from pathlib import Path

import pytest

from benchmarks import architectures
from trivium.configuration.architectures import PAGES
from trivium.modeling.conversion import ORIGINS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"
MEASURED = re.compile(r"\d\.\de[-+]\d+|\bnone\b(?= \||\.$)", re.MULTILINE)
ROUNDING = 1e-5


def without_measurements(text: str) -> str:
    return MEASURED.sub("#", re.sub(r"^Measured .*$", "", text, flags=re.MULTILINE))


def test_the_document_is_the_one_that_the_command_writes():
    nothing = {id(page): dict.fromkeys(ORIGINS[page.model_type].heads, 0.0) for page in PAGES}
    written = architectures.document(nothing, "Measured nowhere.")
    assert without_measurements(DOCUMENT.read_text(encoding="utf-8")) == without_measurements(written)


def test_no_difference_in_the_document_is_more_than_rounding():
    tables = DOCUMENT.read_text(encoding="utf-8").split("| class | largest difference |")[1:]
    assert len(tables) == len(PAGES)
    for text in tables:
        rows = re.findall(r"^\| `\w+` \| (\S+) \|$", text, flags=re.MULTILINE)
        assert rows and all(row == "none" or float(row) < ROUNDING for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: next(iter(page.sizes)))
def test_what_is_measured_now_is_no_more_either(page):
    differences = architectures.measure(page)
    assert list(differences) == list(ORIGINS[page.model_type].heads)
    assert max(differences.values()) < ROUNDING
