import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from trivium.configuration import InputError
from trivium.model_cards.answers import QUESTIONS, read_answers
from trivium.model_cards.card import is_by_hand, template_of
from trivium.model_cards.demonstration import ANSWERED, FAMILIES, HERE, copy_cards
from trivium.model_cards.metadata import check_metadata
from trivium.model_cards.render import template_stamp
from trivium.training.pretrain import FAMILIES as TRAINED


def test_every_question_is_answered():
    asked = {name for name, question in QUESTIONS.items() if question.asked} - {"data_license"}  # which is on record
    assert read_answers(ANSWERED).keys() == asked


@pytest.mark.parametrize("family", TRAINED)
def test_the_cards_that_are_kept_are_whole_and_of_this_template(family):
    path = HERE / family / "README.md"
    card, text = ModelCard.load(path), path.read_text(encoding="utf-8")
    check_metadata(card.data.to_dict())
    assert not is_by_hand(path) and card.data.license == "apache-2.0" and "Not answered" not in text
    assert template_of(path) == template_stamp(), "make demo, then python -m trivium.model_cards.demonstration out/demo"
    assert all((path.parent / name).is_file() for name in re.findall(r"!\[.*\]\((.*)\)", text))


def test_cards_are_copied_with_their_pictures(tmp_path):
    copy_cards(HERE, tmp_path)
    copied = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert copied and all((HERE / name).read_bytes() == content for name, content in copied.items())
    assert {Path(name).parts[0] for name in copied} == set(FAMILIES) == set(TRAINED)


def test_without_the_demonstration_there_is_nothing_to_copy(tmp_path):
    with pytest.raises(InputError, match="make it with trivium demo"):
        copy_cards(tmp_path, tmp_path / "to")
    assert not (tmp_path / "to").exists()
