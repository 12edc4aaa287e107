"""What PyPI, npm and Debian hold, fetched by their own clients as these are set up here; nothing is installed.

`pip download` asks a source distribution for its metadata, which runs its `setup.py`, as `pip install` would.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ...configuration.errors import InputError

# What is said where a client is missing.
MISSING = {
    "pip": f"pip is not here: get it with `{sys.executable} -m ensurepip`.",
    "npm": "npm is not here: install Node.js, which brings it.",
    "apt-get": "apt-get is not here: Debian's packages can be fetched on Debian and its derivatives only.",
}
# The lines with which pip, npm and apt-get tell an error, and the words with which they tell that nobody answered.
ERROR_LINE = re.compile(r"^(?:ERROR:|E:|npm (?:error|ERR!)(?: \d+)?) (?!code )(.*\S)", re.MULTILINE)
UNREACHABLE = re.compile(
    r"connection (?:broken|refused|timed out|reset)|could not (?:connect|resolve)|temporary failure"
    r"|network is unreachable|ECONN\w+|ENOTFOUND|ETIMEDOUT|EAI_AGAIN",
    re.IGNORECASE,
)
# Lists and downloads of its own, so that neither root nor the machine's state is needed; read after the machine's own
# configuration. Images of containers often turn translations off, which hold the descriptions.
APT_CONFIGURATION = """\
Dir::State::lists "{apt}/lists";
Dir::Cache "{apt}/cache";
#clear Acquire::Languages;
Acquire::Languages {{ {languages} }};
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""
LANGUAGES = ("en", "fr")


def pip_download(requirement: str, folder: Path, options: tuple[str, ...] = ()) -> Path:
    """Downloads one distribution from PyPI, without what it depends on.

    Args:
        requirement: as pip takes it, for example `usaddress==0.5.16`.
        folder: an empty folder for it.
        options: more arguments of `pip download`, for example which kind of distribution.

    Raises:
        InputError: pip is missing, or said no.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    _call("pip", [*command, *options, "--dest", str(folder), requirement], folder, requirement)
    return _only_file(folder, requirement)


def npm_pack(requirement: str, folder: Path) -> Path:
    """Downloads one package from npm; arguments and errors as of [`pip_download`]."""
    _call("npm", ["npm", "pack", "--ignore-scripts", requirement], folder, requirement)
    return _only_file(folder, requirement)


def apt_download(package: str, folder: Path, apt: Path) -> Path:
    """Downloads one binary package from the archives that apt knows here.

    Args:
        package: its name.
        folder: an empty folder for it.
        apt: folder for the lists of packages, which are fetched where they are missing or out of date.

    Raises:
        InputError: apt-get is missing, or said no.
    """
    command = ["apt-get", "-c", str(_configure(apt)), "download", package]
    try:
        if not _targets(apt):
            apt_update(apt)
        _call("apt-get", command, folder, package)
    except InputError:  # the archive may have gone on to another version than the lists name
        apt_update(apt)
        _call("apt-get", command, folder, package)
    return _only_file(folder, package)


def apt_update(apt: Path) -> None:
    """Fetches the lists of packages and their translated descriptions; raises `InputError` if nobody answers."""
    said = _call("apt-get", ["apt-get", "-c", str(_configure(apt)), "update"], apt, "lists of packages")
    if not _targets(apt):
        raise InputError(_no("apt-get", "lists of packages", said))


def apt_lists(folder: Path, apt: Path) -> str:
    """Writes Debian's lists as text: `Packages`, `Translation-en`, `Translation-fr`.

    Args:
        folder: an empty folder for them.
        apt: folder for the lists as apt keeps them.

    Returns:
        The releases that they describe, for example "bookworm bookworm-security".

    Raises:
        InputError: apt-get is missing or said no, or the archives that it knows are not Debian's.
    """
    apt_update(apt)
    releases = []
    for kind, language, origin, release, path in _targets(apt):
        name = "Packages" if kind == "Packages" else f"Translation-{language}"
        if origin == "Debian":
            releases.append(release)
            text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], capture_output=True, check=True).stdout
            with open(folder / name, "ab") as file:
                file.write(text.rstrip(b"\n") + b"\n\n")
    if not releases:
        raise InputError("the archives that apt knows here are not Debian's: the descriptions are made on Debian only.")
    return " ".join(dict.fromkeys(releases))


def _configure(apt: Path) -> Path:
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    file = apt / "apt.conf"
    languages = " ".join(f'"{language}";' for language in LANGUAGES)
    file.write_text(APT_CONFIGURATION.format(apt=apt.absolute(), languages=languages), encoding="utf-8")
    return file


def _targets(apt: Path) -> list[list[str]]:
    """Kind, language, origin, release and file of the lists that are here."""
    fields = "$(IDENTIFIER)\t$(LANGUAGE)\t$(ORIGIN)\t$(CODENAME)\t$(FILENAME)"
    command = ["apt-get", "-c", str(_configure(apt)), "indextargets", "--format", fields]
    lines = _call("apt-get", command, apt, "lists of packages").splitlines()
    targets = [line.split("\t") for line in lines if line.startswith(("Packages\t", "Translations\t"))]
    return [target for target in targets if Path(target[-1]).is_file()]


def _call(client: str, command: list[str], folder: Path, what: str) -> str:
    """What a client printed; raises `InputError` if it is missing or failed."""
    found = importlib.util.find_spec("pip") if client == "pip" else shutil.which(command[0])
    if found is None:
        raise InputError(MISSING[client])
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise InputError(_no(client, what, done.stderr or done.stdout))
    return done.stdout + done.stderr


def _no(client: str, what: str, said: str) -> str:
    """One sentence out of all that a client said."""
    lines = said.strip().splitlines() or ["it gave no reason"]
    error = ERROR_LINE.search(said)
    reason = "nobody answers, is there a network?" if UNREACHABLE.search(said) else error[1] if error else lines[-1]
    return f"{client} could not get {what}: {' '.join(reason.split())[:300]}"


def _only_file(folder: Path, what: str) -> Path:
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1:
        raise InputError(f"one file was expected of {what}, not {len(files)}: {sorted(path.name for path in files)}.")
    return files[0]
