import pytest

from trivium.training.corpora.debian import (
    MASK,
    Description,
    lay_out,
    masked,
    read_descriptions,
    summaries,
    tagged,
    topics,
    translated,
)


def described(long, package="libtoy-box-dev", source="toy-box"):
    return Description(package, source, "games", (), "", "a toy", (long,))


def test_lines_are_joined_and_those_of_lists_kept():
    text = " One sentence that\n goes on.\n .\n A list:\n  * one\n  * two\n    more\n .\n .\n End."
    assert list(lay_out(text)) == ["One sentence that goes on.", "A list:\n* one\n* two\nmore", "End."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Toy-box is a TOY-BOX.", f"{MASK} is a {MASK}."),
        ("libtoy-box-dev and libtoy-box", f"{MASK} and {MASK}"),
        ("A toy box of toys", f"A {MASK} of toys"),
        ("toy-boxes stay, so does mytoy-box", "toy-boxes stay, so does mytoy-box"),
    ],
)
def test_names_are_masked_however_they_are_written(text, expected):
    assert masked(described(text)) == expected


def test_a_package_is_read_with_its_source_and_its_tags(folders):
    packages = read_descriptions(folders["descriptions"])
    assert len(packages) == 240
    assert packages[7] == Description(
        package="libtoy7-dev",
        source="toy2",
        section="sound",
        tags=("role::program", "use::playing", "game::rare7"),
        key=f"{7:032}",
        short="toy number 7",
        paragraphs=(
            "Toy7 is made of wood and 7 paints, as LIBTOY7-DEV says; toy2 plays.",
            "It has:\n* wheels\n* doors and a bell, which rings at noon",
        ),
    )


def test_topics_are_sections_that_say_what_a_package_is_for(folders):
    rows = list(topics(folders["descriptions"]))
    assert {row["label"] for _, row in rows} == {"games", "sound"} and len(rows) == 160
    assert rows[0][1]["text"].startswith(f"{MASK} is made of wood and 0 paints, as {MASK} says; {MASK} plays.")


def test_rare_tags_are_left_out(folders):
    assert {tuple(row["labels"]) for _, row in tagged(folders["descriptions"])} == {("role::program", "use::playing")}


def test_packages_of_one_source_are_one_group(folders):
    groups = [group for group, _ in summaries(folders["descriptions"])]
    assert groups[:4] == ["toy0", "toy0", "toy0", "toy1"]


def test_translations_are_aligned_by_paragraph(folders):
    rows = [row for group, row in translated(folders["descriptions"]) if group == "toy2"]
    assert rows[0] == {"source": "toy number 7", "target": "jouet 7"}
    assert rows[1]["target"] == "Le jouet 7 est en bois."
