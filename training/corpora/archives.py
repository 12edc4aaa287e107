"""The files of a package, out of the archive that its registry sends: zip, wheel, tar or deb."""

import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from gzip import BadGzipFile
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from ...configuration.errors import InputError

BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, BadGzipFile, EOFError)


def unpack(archive: Path, folder: Path, patterns: tuple[str, ...]) -> None:
    """Writes the regular files of an archive that a pattern matches into a folder.

    Links, devices and permissions are left out, so nothing that is unpacked can point or run anywhere.

    Args:
        archive: a `.zip`, `.whl`, `.deb`, or a tar in any compression that Python reads.
        folder: where to; it is made.
        patterns: shell patterns of paths inside; `*` matches a slash too.

    Raises:
        InputError: the archive is broken, names a place outside the folder, or has no file for one of the patterns.
    """
    missing = set(patterns)
    try:
        for name, content in members(archive):
            matching = {pattern for pattern in patterns if fnmatchcase(name, pattern)}
            if matching:
                _write(content, _inside(folder, name, archive))
            missing -= matching
    except BROKEN as error:
        raise InputError(f"'{archive.name}' is broken ({error}): fetch it again.") from error
    if missing:
        raise InputError(f"'{archive.name}' holds no file '{min(missing)}': the package is no longer as it was.")


def members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yields path and content of each regular file, in the order of the archive; read a content before the next."""
    if archive.suffix in (".zip", ".whl"):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                if not entry.is_dir():
                    with opened.open(entry) as content:
                        yield _normal(entry.filename), content
        return
    with _tar_of(archive) as tar:
        for member in tar:
            if member.isreg() and (extracted := tar.extractfile(member)) is not None:
                yield _normal(member.name), extracted


@contextmanager
def _tar_of(archive: Path) -> Iterator[tarfile.TarFile]:
    if archive.suffix != ".deb":
        with tarfile.open(archive) as tar:
            yield tar
        return
    if shutil.which("dpkg-deb") is None:
        raise InputError("Debian's packages are unpacked by dpkg-deb, which is not here: install dpkg.")
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            yield tar


def _normal(name: str) -> str:
    return str(PurePosixPath(name))


def _inside(folder: Path, name: str, archive: Path) -> Path:
    target = folder / name
    if not target.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"'{archive.name}' is not to be trusted: its file '{name}' lies outside the package.")
    return target


def _write(content: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(content, file)
