import io
import shutil
import stat
import subprocess
import tarfile
import zipfile

import pytest

from trivium.configuration import InputError
from trivium.training.corpora.archives import members, unpack

NEEDS_DPKG = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not here")
FILES = {"pkg-1/data/a.txt": b"one\n", "pkg-1/data/deep/b.txt": b"two\n" * 5000, "pkg-1/setup.py": b"raise SystemExit"}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pkg-1/data/", b"")
        for name, content in files.items():
            archive.writestr(name, content)


def make_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o4777
            archive.addfile(entry, io.BytesIO(content))
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "pkg-1/setup.py")):
            link = tarfile.TarInfo("pkg-1/data/link.txt")
            link.type, link.linkname = kind, target
            archive.addfile(link)


def make_deb(path, files):
    tree = path.with_suffix("")
    (tree / "DEBIAN").mkdir(parents=True)
    tree.chmod(0o755), (tree / "DEBIAN").chmod(0o755)
    (tree / "DEBIAN/control").write_text(
        "Package: pkg\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: us <us@example.org>\nDescription: a package\n"
    )
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    (tree / "pkg-1/data/link.txt").symlink_to("/etc/passwd")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(path)], check=True, capture_output=True)


KINDS = [
    pytest.param(make_zip, "pkg-1.zip", id="zip"),
    pytest.param(make_zip, "pkg-1-py3-none-any.whl", id="wheel"),
    pytest.param(make_tar, "pkg-1.tar.gz", id="tar"),
    pytest.param(make_tar, "pkg-1.tgz", id="npm"),
    pytest.param(make_deb, "pkg_1_all.deb", id="deb", marks=NEEDS_DPKG),
]


@pytest.mark.parametrize(("make", "name"), KINDS)
def test_the_files_that_are_asked_for_are_unpacked_and_nothing_else(make, name, tmp_path):
    make(tmp_path / name, FILES)
    unpack(tmp_path / name, tmp_path / "out", ("pkg-*/data/*.txt",))
    written = {
        str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert {inside: path.read_bytes() for inside, path in written.items()} == dict(list(FILES.items())[:2])
    assert not any(path.is_symlink() or path.stat().st_mode & stat.S_ISUID for path in written.values())


@pytest.mark.parametrize(("make", "name"), KINDS)
def test_a_file_that_is_missing_is_named(make, name, tmp_path):
    make(tmp_path / name, FILES)
    with pytest.raises(InputError, match=r"holds no file '\*/gone.xml'"):
        unpack(tmp_path / name, tmp_path / "out", ("*/gone.xml", "*/a.txt"))


@pytest.mark.parametrize(("make", "name"), KINDS)
def test_a_broken_archive_is_one_sentence(make, name, tmp_path):
    make(tmp_path / name, FILES)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is broken"):
        unpack(tmp_path / name, tmp_path / "out", ("*",))


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../outside.txt", "pkg-1/../../outside.txt", "{outside}"])
def test_nothing_is_written_outside_the_folder(make, name, tmp_path):
    outside = tmp_path / "outside.txt"
    archive = tmp_path / ("pkg.zip" if make is make_zip else "pkg.tar.gz")
    make(archive, {name.format(outside=outside): b"gotcha"})
    with pytest.raises(InputError, match="is not to be trusted"):
        unpack(archive, tmp_path / "out", ("*",))
    assert not outside.exists()


def test_members_come_in_the_order_of_the_archive(tmp_path):
    make_tar(tmp_path / "pkg.tar.gz", {"./z": b"1", "a//b": b"2"})
    assert [(name, content.read()) for name, content in members(tmp_path / "pkg.tar.gz")] == [
        ("z", b"1"),
        ("a/b", b"2"),
    ]
