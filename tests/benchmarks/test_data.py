"""What the contenders are trained on."""

from types import SimpleNamespace

from benchmarks import data


def test_docstrings_are_read_once_each_and_no_further_than_asked(tmp_path, monkeypatch):
    long, other = " ".join(["word"] * 50), " ".join(["others"] * 50)
    (tmp_path / "a.py").write_text(
        f'"""{long}"""\n\n\nclass A:\n    """{other}"""\n\n    def f():\n        """short"""\n'
    )
    (tmp_path / "b.py").write_text("not python")
    (tmp_path / "c.py").write_text(
        f'raise SystemExit\n\n\nasync def f():\n    """{long}"""\n\n\ndef g():\n    "x{other}"\n'
    )
    monkeypatch.setattr(data, "sysconfig", SimpleNamespace(get_path=lambda name: tmp_path))
    found = [document["text"] for document in data.docstrings(10_000)]
    assert found == [long, other, f"x{other}"]
    assert len([*data.docstrings(len(long))]) < len(found)
