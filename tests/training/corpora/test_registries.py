"""The real clients, on packages and archives that lie on this machine; no test here needs a network."""

import hashlib
import importlib.util
import json
import shutil
import sys
import zipfile

import pytest

from trivium.configuration import InputError
from trivium.training.corpora import registries
from trivium.training.corpora.registries import apt_download, apt_lists, npm_pack, pip_download

NOWHERE = "http://127.0.0.1:9"  # the port that discards: nothing listens there
KEY = "0123456789abcdef" * 2
NEEDS_NPM = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not here")
NEEDS_APT = pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt-get is not here")


@pytest.fixture
def room(tmp_path):
    folder = tmp_path / "room"
    folder.mkdir()
    return folder


def make_wheel(folder):
    folder.mkdir()
    with zipfile.ZipFile(folder / "toy_data-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy_data/a.txt", "text")
        wheel.writestr("toy_data-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.2\n")
        wheel.writestr("toy_data-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("toy_data-1.2.dist-info/RECORD", "")
    return folder


def test_pip_brings_one_distribution_and_installs_nothing(room, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(make_wheel(tmp_path / "links")))
    archive = pip_download("toy-data==1.2", room, ("--only-binary=:all:",))
    assert archive == room / "toy_data-1.2-py3-none-any.whl"
    assert importlib.util.find_spec("toy_data") is None


@NEEDS_NPM
def test_npm_brings_one_tarball_and_runs_nothing(room, tmp_path):
    source = tmp_path / "toy"
    source.mkdir()
    scripts = {"prepack": "exit 1", "prepare": "exit 1"}
    (source / "package.json").write_text(json.dumps({"name": "toy-data", "version": "1.2.3", "scripts": scripts}))
    (source / "a.txt").write_text("text")
    assert npm_pack(str(source), room) == room / "toy-data-1.2.3.tgz"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive of Debian's form in a folder, which apt knows instead of the machine's own."""
    root = tmp_path / "archive"
    lists = {
        "main/binary-amd64/Packages": "Package: toy\nVersion: VERSION\nArchitecture: amd64\nSection: games\n"
        f"Description: toy\nDescription-md5: {KEY}\nFilename: pool/VERSION.deb\nSize: 4\n"
        f"SHA256: {hashlib.sha256(b'toy!').hexdigest()}\n\n",
        "main/i18n/Translation-en": f"Package: toy\nDescription-md5: {KEY}\nDescription-en: toy\n A toy.\n\n",
        "main/i18n/Translation-fr": f"Package: toy\nDescription-md5: {KEY}\nDescription-fr: jouet\n Un jouet.\n\n",
    }

    def make(origin="Debian", version="1.2-1"):
        sums = []
        for name, text in lists.items():
            path = root / "dists/stable" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = text.replace("VERSION", version)
            path.write_text(text)
            sums.append(f" {hashlib.sha256(text.encode()).hexdigest()} {len(text)} {name}")
        release = f"Origin: {origin}\nSuite: stable\nCodename: toystory\nArchitectures: amd64\nComponents: main\n"
        (root / "dists/stable/Release").write_text(f"{release}SHA256:\n" + "\n".join(sums) + "\n")
        (root / "pool").mkdir(exist_ok=True)
        (root / f"pool/{version}.deb").write_bytes(b"toy!")
        use(f"deb [arch=amd64 trusted=yes] file:{root} stable main")
        return root

    def use(line):
        (tmp_path / "sources.list").write_text(f"{line}\n")
        settings = {
            "Dir::Etc::sourcelist": tmp_path / "sources.list",
            "Dir::Etc::sourceparts": tmp_path / "none",
            "Dir::State::status": tmp_path / "status",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "0",
            "APT::Architecture": "amd64",
        }
        (tmp_path / "status").touch()
        (tmp_path / "none").mkdir(exist_ok=True)
        (tmp_path / "test.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
        monkeypatch.setenv("APT_CONFIG", str(tmp_path / "test.conf"))

    make.use = use
    return make


@NEEDS_APT
def test_apt_writes_debians_lists_as_text(archive, room, tmp_path):
    root = archive()
    assert apt_lists(room, tmp_path / "apt") == "toystory"
    for name in ("binary-amd64/Packages", "i18n/Translation-en", "i18n/Translation-fr"):
        expected = (root / "dists/stable/main" / name).read_text()
        assert (room / name.rpartition("/")[2]).read_text() == expected


@NEEDS_APT
def test_apt_brings_one_package_and_updates_lists_that_are_out_of_date(archive, room, tmp_path):
    root = archive()
    deb = apt_download("toy", room, tmp_path / "apt")
    assert deb.name == "toy_1.2-1_amd64.deb" and deb.read_bytes() == b"toy!"
    deb.unlink()
    # A point release: the lists of the archive go on to a new version, and the file of the old one is deleted.
    (root / "pool/1.2-1.deb").unlink()
    archive(version="1.2-2")
    assert apt_download("toy", room, tmp_path / "apt").name == "toy_1.2-2_amd64.deb"


@NEEDS_APT
def test_lists_of_another_distribution_are_refused(archive, room, tmp_path):
    archive("Ubuntu")
    with pytest.raises(InputError, match="are not Debian's"):
        apt_lists(room, tmp_path / "apt")


@pytest.mark.parametrize(
    ("client", "call"),
    [
        ("pip", lambda folder: pip_download("toy", folder)),
        ("npm", lambda folder: npm_pack("toy", folder)),
        ("apt-get", lambda folder: apt_download("toy", folder, folder / "apt")),
        ("apt-get", lambda folder: apt_lists(folder, folder / "apt")),
    ],
)
def test_a_missing_client_is_one_sentence_that_says_what_to_install(client, call, room, monkeypatch):
    monkeypatch.setattr(registries.shutil, "which", lambda name: None)
    monkeypatch.setattr(registries.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as refused:
        call(room)
    assert str(refused.value) == registries.MISSING[client]


@pytest.mark.parametrize(
    ("call", "environment"),
    [
        (lambda folder: pip_download("toy", folder), {"PIP_INDEX_URL": NOWHERE, "PIP_RETRIES": "1"}),
        pytest.param(
            lambda folder: npm_pack("toy", folder),
            {"npm_config_registry": NOWHERE, "npm_config_fetch_retries": "0"},
            marks=NEEDS_NPM,
        ),
    ],
    ids=["pip", "npm"],
)
def test_no_network_is_one_sentence(call, environment, room, monkeypatch):
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "0", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(InputError, match="could not get toy: nobody answers, is there a network") as refused:
        call(room)
    assert "\n" not in str(refused.value)


@NEEDS_APT
def test_apt_without_a_network_is_one_sentence(archive, room, tmp_path):
    archive.use(f"deb [arch=amd64 trusted=yes] {NOWHERE}/debian stable main")
    with pytest.raises(InputError, match="nobody answers"):
        apt_lists(room, tmp_path / "apt")


def test_a_package_that_does_not_exist_is_one_sentence(room, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(make_wheel(tmp_path / "links")))
    with pytest.raises(InputError, match="pip could not get toy-story: Could not find a version"):
        pip_download("toy-story", room)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("WARNING: x\nERROR: No matching distribution found for toy\n", "No matching distribution found for toy"),
        ("npm error code E404\nnpm error 404 Not Found - toy\nnpm error log", "Not Found - toy"),
        ("npm ERR! code E404\nnpm ERR! 404 Not Found\n", "Not Found"),
        ("E: Unable to locate package toy", "Unable to locate package toy"),
        ("something else\nthe last line", "the last line"),
        ("", "it gave no reason"),
        ("ERROR: [Errno 28] No space left on device", "[Errno 28] No space left on device"),
        ("npm error code ECONNREFUSED\nnpm error x", "nobody answers, is there a network?"),
    ],
)
def test_the_reason_is_found_in_what_a_client_says(said, reason):
    assert registries._no("client", "toy", said) == f"client could not get toy: {reason}"


def test_pip_is_that_of_this_python(room, monkeypatch):
    seen = []
    monkeypatch.setattr(registries, "_call", lambda client, command, folder, what: seen.append(command))
    monkeypatch.setattr(registries, "_only_file", lambda folder, what: folder)
    pip_download("toy==1", room, ("--only-binary=:all:",))
    assert seen[0][:4] == [sys.executable, "-m", "pip", "download"] and seen[0][-1] == "toy==1"
    assert "--no-deps" in seen[0] and "--only-binary=:all:" in seen[0]
