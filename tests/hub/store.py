"""What the Hub of the tests stores: repositories as chains of commits, named by branches and tags.

A commit is a complete table of files. A branch moves only when the whole of the next commit is built, so that a commit
is all or nothing. LFS objects lie beside the commits under their sha256, as they do on the real Hub: an upload that
was interrupted finds there what it sent before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha1, sha256
from types import MappingProxyType

LFS_SUFFIXES = tuple(
    ".7z .arrow .bin .bz2 .ckpt .gguf .gz .h5 .jpg .model .msgpack .npy .npz .onnx .ot .parquet .pb .pickle .pkl .png "
    ".pt .pth .rar .safetensors .tar .tflite .tgz .wasm .xz .zip .zst".split()
)
LFS_SIZE = 10 * 2**20
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class HubError(Exception):
    """An answer that is not a success: HTTP status, the sentence, the `X-Error-Code` if there is one."""

    def __init__(self, status: int, message: str, code: str | None = None, **fields):
        super().__init__(message)
        self.status, self.message, self.code, self.fields = status, message, code, fields


@dataclass(frozen=True)
class File:
    """A file at a revision: its bytes, and whether git holds them or a pointer to an LFS object."""

    data: bytes = field(repr=False)
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def oid(self) -> str:
        """The name of the git blob."""
        blob = self.pointer if self.lfs else self.data
        return sha1(b"blob %d\0" % len(blob) + blob).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    description: str
    author: str
    date: datetime
    files: Mapping[str, File] = field(repr=False)


def next_commit(parent: Commit | None, files: Mapping[str, File], title: str, description: str, author: str) -> Commit:
    """A commit whose name follows from what it holds and where it stands; each is a second younger than its parent."""
    date = EPOCH if parent is None else parent.date + timedelta(seconds=1)
    tree = "".join(f"{path} {files[path].oid}\n" for path in sorted(files))
    parent_oid = None if parent is None else parent.oid
    oid = sha1("\0".join([str(parent_oid), tree, title, description, author]).encode()).hexdigest()
    return Commit(oid, parent_oid, title, description, author, date, MappingProxyType(dict(files)))


def upload_mode(path: str, size: int, sample: bytes) -> str:
    """`lfs` for what git should not hold: binary suffixes, large files, bytes that are no text."""
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        binary = error.start < len(sample) - 3  # the sample may end inside a character
    else:
        binary = b"\0" in sample
    return "lfs" if path.endswith(LFS_SUFFIXES) or size > LFS_SIZE or binary else "regular"


@dataclass
class Repository:
    """A repository of one kind (`model`, `dataset`, `space`), with the initial commit that the Hub makes.

    `objects` are the LFS objects that were uploaded, committed or not, by their sha256.
    """

    id: str
    kind: str = "model"
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict, repr=False)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        self._advance(
            "main", next_commit(None, {".gitattributes": File(GIT_ATTRIBUTES)}, "initial commit", "", self.owner)
        )

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    def _advance(self, branch: str, commit: Commit) -> None:
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a full sha names; the first two also as `refs/heads/` and `refs/tags/`."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.branches.get(name) or self.tags.get(name) or revision
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def file(self, revision: str, path: str) -> File:
        files = self.resolve(revision).files
        if path not in files:
            raise HubError(404, "Entry not found", "EntryNotFound")
        return files[path]

    def history(self, revision: str) -> list[Commit]:
        """The newest first."""
        chain = [self.resolve(revision)]
        while chain[-1].parent is not None:
            chain.append(self.commits[chain[-1].parent])
        return chain

    def create_branch(self, name: str, start: str = "main") -> None:
        if name in self.branches:
            raise HubError(409, f"Reference already exists: refs/heads/{name}")
        self.branches[name] = self.resolve(start).oid

    def delete_branch(self, name: str) -> None:
        if name == "main":
            raise HubError(403, "Cannot delete the default branch: refs/heads/main")
        if self.branches.pop(name, None) is None:
            raise HubError(404, f"Invalid rev id: refs/heads/{name}", "RevisionNotFound")

    def create_tag(self, name: str, revision: str) -> None:
        if name in self.tags:
            raise HubError(409, f"Tag reference exists already: refs/tags/{name}")
        self.tags[name] = self.resolve(revision).oid

    def delete_tag(self, name: str) -> None:
        if self.tags.pop(name, None) is None:
            raise HubError(404, f"Invalid rev id: refs/tags/{name}", "RevisionNotFound")

    def commit(
        self, branch: str, changes: list[tuple], title: str, description: str, author: str, parent: str | None
    ) -> Commit:
        """Applies `changes` to what `branch` holds and moves it there, or raises and changes nothing.

        A change is `("file", path, bytes)`, `("lfsFile", path, sha256)`, `("deletedFile", path)` or
        `("deletedFolder", path)`. `parent` is the commit that the client believes the branch to be at.
        """
        if branch not in self.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = self.resolve(branch)
        if parent not in (None, head.oid):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for kind, path, *content in changes:
            self._change(files, kind, path, *content)
        commit = next_commit(head, files, title, description, author)
        self._advance(branch, commit)
        return commit

    def _change(self, files: dict[str, File], kind: str, path: str, content=None) -> None:
        if kind == "file":
            files[path] = File(content)
        elif kind == "lfsFile":
            if content not in self.objects:
                raise HubError(400, f'LFS pointer pointed to a file that does not exist: "{path}"')
            files[path] = File(self.objects[content], lfs=True)
        elif kind in ("deletedFile", "deletedFolder"):
            inside = path.rstrip("/") + "/"
            gone = [path] if kind == "deletedFile" else [name for name in files if name.startswith(inside)]
            if not gone or not files.keys() >= set(gone):
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]
        else:
            raise HubError(400, f"Unknown operation in a commit: {kind}")
