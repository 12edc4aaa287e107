import pytest

from trivium.configuration import InputError
from trivium.training.corpora.bible import _others, chapter_of, plain, read_verses, verse_pairs
from trivium.training.corpora.corpus import choose_split


def test_verses_have_the_names_that_the_headings_give_them(folders):
    verses = read_verses(folders["sword-text-kjv"])
    assert len(verses) == 2 * 80 * 3
    assert verses["Gen.1.1"] == "And thou saidst Gen 1 & 1."
    assert verses["Matt.80.3"] == "And thou saidst Matt 80 & 3."


def test_half_of_the_pairs_are_one_verse_and_the_others_two_of_a_book_and_a_split(folders):
    rows = list(verse_pairs(folders["sword-text-kjv"], folders["sword-text-web"]))
    same = [row["label"] == "same" for _, row in rows]
    assert len(rows) == 480 and 0.4 < sum(same) / len(same) < 0.6
    for (chapter, row), is_same in zip(rows, same, strict=True):
        old, new = row["text"].split()[-4:], row["text_pair"].split()[-4:]
        assert old[:2] == chapter.split(".") and old[0] == new[0] and (old == new) == is_same
        assert choose_split(".".join(old[:2])) == choose_split(".".join(new[:2]))


def test_those_that_differ_share_words_but_are_not_parallel_passages():
    old = {"A.1.1": "and the king went up", "A.1.2": "and the queen went down", "A.1.3": "let there be light"}
    new = {"A.1.1": "the king went up", "A.1.2": "the queen went down", "A.1.3": "there was no light"}
    assert _others(old, new, [*old]) == {"A.1.1": "A.1.2", "A.1.2": "A.1.1", "A.1.3": "A.1.1"}
    twice = {**new, "A.1.2": "up went the king!"}
    assert _others(old, twice, [*old])["A.1.1"] == "A.1.3"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ('So <w lemma="x">God</w> created<note placement="foot">a <b>note</b></note> man.', "So God created man."),
        ("<title>A Psalm</title>\u00b6 Blessed &amp; glad", "Blessed & glad"),
        ('<title type="x"/>is kept <milestone/> whole', "is kept whole"),
        ('Amen. <chapter eID="Rev.22"/> <p>Glossary</p>', "Amen."),
    ],
)
def test_notes_and_headings_are_not_the_verses(markup, text):
    assert plain(markup) == text


def test_the_chapter_of_a_verse():
    assert chapter_of("1Sam.2.13") == "1Sam.2"


def test_broken_text_is_one_sentence(tmp_path):
    place = tmp_path / "usr/share/sword/modules/texts/ztext/toy"
    place.mkdir(parents=True)
    for name in ("bzv", "bzs", "bzz"):
        (place / f"ot.{name}").write_bytes(b"1234567890" * 6)
    with pytest.raises(InputError, match="is broken"):
        read_verses(tmp_path)
