from trivium.training.corpora.libreoffice import paragraphs, translations


def page(tmp_path, body):
    path = tmp_path / "page.html"
    path.write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    return paragraphs(path)


def test_paragraphs_are_read_by_their_id(tmp_path):
    found = page(tmp_path, '<p>none</p><h2 id="a">A <b>bold</b> head</h2><div><p id="b">x<br>y&nbsp;&amp; z</p></div>')
    assert found == {"a": "A bold head", "b": "x y & z"}


def test_only_the_form_for_all_systems_is_read(tmp_path):
    body = '<p id="a">Press <span><span class="MAC">Cmd</span><span id="d">Ctrl</span></span>+F<img src="x"> now</p>'
    assert page(tmp_path, body) == {"a": "Press Ctrl+F now"}


def test_what_was_left_open_is_closed(tmp_path):
    assert page(tmp_path, '<div><p id="a">one <span>two</div><p id="b">three</p></span> no id') == {
        "a": "one two",
        "b": "three",
    }


def test_pairs_are_those_of_one_id_with_enough_words(folders):
    rows = list(translations(folders["libreoffice-help-en-us"], folders["libreoffice-help-fr"]))
    assert len(rows) == 160
    assert rows[1] == (
        "shared/page0.html",
        {
            "source": "Choose this with the menu number 0: press Ctrl+F twice.",
            "target": "Choisissez ceci avec le menu number 0: press Ctrl+F twice.",
        },
    )
