"""What a card of fetched data states is read back, by the cards of models that learnt from it."""

import pytest

from tests.training.finetuned import finetune, write_base, write_data
from trivium.training.corpora.card import checkpoint_card, corpus_card, stated_of
from trivium.training.corpora.catalogue import CHECKPOINTS, CORPORA


@pytest.mark.parametrize("name", CORPORA)
def test_licence_and_languages_of_every_set_are_read_back(name, tmp_path):
    corpus = CORPORA[name]
    (tmp_path / "README.md").write_text(corpus_card(name, corpus, {"train": 3}, []), encoding="utf-8")
    (tmp_path / "train.jsonl").touch()
    expected = {"license": corpus.terms.rstrip("."), "languages": list(corpus.language)}
    expected["license"] = expected["license"][0].upper() + expected["license"][1:]
    assert stated_of([str(tmp_path)]) == stated_of([str(tmp_path / "train.jsonl")]) == expected


@pytest.mark.parametrize(
    "card",
    [
        None,
        "",
        "---\nlicense: mit\n---\n\n# mine\n\n## Licence\n\nMIT.\n",
        "---\n: [\n---\n\nMade by `trivium fetch verses` on a day.\n\n## Licence\n\nMIT.\n",
        checkpoint_card("minilm", CHECKPOINTS["minilm"], []),
    ],
)
def test_other_cards_state_nothing(card, tmp_path):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert stated_of([str(tmp_path)]) == stated_of(["owner/name"]) == stated_of([]) == {}


def test_the_card_of_a_model_names_the_licence_of_its_data(tokenizers, tmp_path):
    data = write_data(tmp_path / "data", "text-classification")
    (data / "README.md").write_text(corpus_card("verses", CORPORA["verses"], {"train": 40}, []), encoding="utf-8")
    base = write_base(tmp_path / "base", "encoder", tokenizers["encoder"])
    finetune("text-classification", base, data, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in card.splitlines() if "| English |" in line]
    assert "letters patent in the United Kingdom" in row
