"""The endpoints that huggingface_hub calls, each a function from a request to an answer.

A path's parts are matched before they are unquoted: revisions come with their slashes quoted.
"""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.hub import cards
from tests.hub.accounts import Account, account_of, require_account, require_namespace, require_read, require_write
from tests.hub.store import Commit, File, HubError, Repository, upload_mode

PARTS = {
    "kind": "(?P<kind>model|dataset|space)s",
    "prefix": "(?:(?P<kind>dataset|space)s/)?",
    "id": "(?P<id>[^/]+/[^/]+)",
    "revision": "(?P<revision>[^/]+)",
    "path": "(?P<path>.+)",
}
ROUTES: list[tuple[str, re.Pattern, Callable]] = []


@dataclass
class Request:
    """A request, and what the route found in its path."""

    method: str
    path: str
    query: str = ""
    headers: Any = field(default_factory=dict)
    body: bytes = b""
    account: Account | None = None
    parts: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        return self.parts.get("kind", "model")

    @property
    def revision(self) -> str:
        return self.parts["revision"]


@dataclass
class Answer:
    """`content` is bytes, or what becomes JSON."""

    content: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


def route(method: str, path: str):
    """Registers a function as what answers `method` at `path`, in which {names} stand for `PARTS`."""
    pattern = re.compile(path.format(**PARTS))

    def register(function):
        ROUTES.append((method, pattern, function))
        return function

    return register


def answer(hub, request: Request) -> Answer:
    """What the Hub says; `hub` is where repositories and tokens are."""
    try:
        request.account = account_of(request.headers.get("Authorization"), hub.accounts)
        for method, pattern, function in ROUTES:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                request.parts = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
                return function(hub, request)
        raise HubError(404, f"Nothing answers {request.method} {request.path}")
    except HubError as error:
        return refusal(error)


def refusal(error: HubError) -> Answer:
    code = {"X-Error-Code": error.code} if error.code else {}
    headers = {"X-Error-Message": " ".join(error.message.split())} | code
    return Answer({"error": error.message} | error.fields, error.status, headers)


def readable(hub, request: Request) -> Repository:
    return require_read(request.account, hub.repositories.get((request.kind, request.parts["id"])))


def writable(hub, request: Request) -> Repository:
    return require_write(request.account, hub.repositories.get((request.kind, request.parts["id"])))


def address(hub, repository: Repository) -> str:
    return f"{hub.url}/{'' if repository.kind == 'model' else repository.kind + 's/'}{repository.id}"


@route("GET", "/api/whoami-v2")
def who_am_i(hub, request: Request) -> Answer:
    account = require_account(request.account)
    organizations = [{"type": "org", "name": name, "roleInOrg": "write"} for name in account.organizations]
    token = {"displayName": "tests", "role": account.role}
    auth = {"type": "access_token", "accessToken": token}
    return Answer({"type": "user", "name": account.name, "orgs": organizations, "auth": auth})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub, request: Request) -> Answer:
    errors, warnings = cards.problems(request.json["content"])
    content = {
        name: [{"message": text} for text in texts] for name, texts in [("errors", errors), ("warnings", warnings)]
    }
    return Answer(content, 400 if errors else 200)


@route("POST", "/api/repos/create")
def create_repository(hub, request: Request) -> Answer:
    wanted = request.json
    kind = wanted.get("type") or "model"
    namespace = wanted.get("organization") or require_account(request.account).name
    require_namespace(request.account, namespace, kind)
    repository = Repository(f"{namespace}/{wanted['name']}", kind, wanted.get("visibility") == "private")
    if (kind, repository.id) in hub.repositories:
        raise HubError(409, f"You already created this {kind} repo: {repository.id}", url=address(hub, repository))
    hub.repositories[kind, repository.id] = repository
    return Answer({"url": address(hub, repository), "name": repository.id, "private": repository.private})


@route("DELETE", "/api/repos/delete")
def delete_repository(hub, request: Request) -> Answer:
    wanted = request.json
    namespace = wanted.get("organization") or require_account(request.account).name
    request.parts = {"kind": wanted.get("type") or "model", "id": f"{namespace}/{wanted['name']}"}
    repository = writable(hub, request)
    del hub.repositories[repository.kind, repository.id]
    return Answer()


@route("PUT", "/api/{kind}/{id}/settings")
def settings(hub, request: Request) -> Answer:
    repository = writable(hub, request)
    repository.private = request.json.get("visibility", "private" if repository.private else "public") == "private"
    return Answer({"private": repository.private})


@route("GET", "/api/{kind}/{id}/auth-check(?P<write>/write)?")
def check_rights(hub, request: Request) -> Answer:
    (writable if "write" in request.parts else readable)(hub, request)
    return Answer()


@route("GET", "/api/{kind}/{id}(?:/revision/{revision})?")
def information(hub, request: Request) -> Answer:
    repository = readable(hub, request)
    commit = repository.resolve(request.parts.get("revision", "main"))
    about = {
        "id": repository.id,
        "author": repository.owner,
        "sha": commit.oid,
        "lastModified": date(commit),
        "private": repository.private,
        "gated": False,
        "disabled": False,
        "tags": [],
        "siblings": [sibling(path, file) for path, file in sorted(commit.files.items())],
    }
    return Answer(about | cards.facts(commit.files))


def date(commit: Commit) -> str:
    return commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def sibling(path: str, file: File) -> dict:
    lfs = {"sha256": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
    return {"rfilename": path, "size": len(file.data), "blobId": file.oid} | ({"lfs": lfs} if file.lfs else {})


def entry(path: str, file: File) -> dict:
    lfs = {"oid": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
    return {"type": "file", "path": path, "size": len(file.data), "oid": file.oid} | ({"lfs": lfs} if file.lfs else {})


def directory(path: str) -> dict:
    return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}


@route("GET", "/api/{kind}/{id}/tree/{revision}(?:/{path})?")
def tree(hub, request: Request) -> Answer:
    files = readable(hub, request).resolve(request.revision).files
    root = request.parts.get("path", "").strip("/")
    inside = f"{root}/" if root else ""
    below = {path: file for path, file in files.items() if path.startswith(inside)}
    if not below:
        raise HubError(404, f"{root} does not exist on {request.revision}", "EntryNotFound")
    recursive = parse_qs(request.query).get("recursive", ["false"])[0].lower() == "true"
    folders = {inside + name for path in below for name in parents(path.removeprefix(inside))}
    entries = [directory(path) for path in folders] + [entry(path, file) for path, file in below.items()]
    shown = [item for item in entries if recursive or "/" not in item["path"].removeprefix(inside)]
    return Answer(sorted(shown, key=lambda item: item["path"]))


def parents(path: str) -> list[str]:
    """The folders that a path goes through: a, a/b for a/b/c."""
    return [path[: match.start()] for match in re.finditer("/", path)]


@route("POST", "/api/{kind}/{id}/paths-info/{revision}")
def paths_information(hub, request: Request) -> Answer:
    files = readable(hub, request).resolve(request.revision).files
    paths = parse_qs(request.body.decode()).get("paths", [])
    folders = {name for path in files for name in parents(path)}
    found = [
        entry(path, files[path]) if path in files else directory(path) for path in paths if path in {*files, *folders}
    ]
    return Answer(found)


@route("GET", "/api/{kind}/{id}/refs")
def references(hub, request: Request) -> Answer:
    repository = readable(hub, request)

    def listed(names: dict[str, str], where: str) -> list[dict]:
        return [{"name": name, "ref": f"refs/{where}/{name}", "targetCommit": oid} for name, oid in names.items()]

    return Answer(
        {"branches": listed(repository.branches, "heads"), "tags": listed(repository.tags, "tags"), "converts": []}
    )


@route("GET", "/api/{kind}/{id}/commits/{revision}")
def commits(hub, request: Request) -> Answer:
    history = readable(hub, request).history(request.revision)
    return Answer(
        [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.description,
                "authors": [{"user": commit.author}],
                "date": date(commit),
            }
            for commit in history
        ]
    )


@route("POST", "/api/{kind}/{id}/branch/{revision}")
def create_branch(hub, request: Request) -> Answer:
    writable(hub, request).create_branch(request.revision, request.json.get("startingPoint", "main"))
    return Answer()


@route("DELETE", "/api/{kind}/{id}/branch/{revision}")
def delete_branch(hub, request: Request) -> Answer:
    writable(hub, request).delete_branch(request.revision)
    return Answer()


@route("POST", "/api/{kind}/{id}/tag/{revision}")
def create_tag(hub, request: Request) -> Answer:
    writable(hub, request).create_tag(request.json["tag"], request.revision)
    return Answer()


@route("DELETE", "/api/{kind}/{id}/tag/{revision}")
def delete_tag(hub, request: Request) -> Answer:
    writable(hub, request).delete_tag(request.revision)
    return Answer()


@route("POST", "/api/{kind}/{id}/preupload/{revision}")
def plan_upload(hub, request: Request) -> Answer:
    files = writable(hub, request).resolve(request.revision).files
    wanted = request.json
    ignored = [line for line in wanted.get("gitIgnore", "").splitlines() if line and not line.startswith("#")]
    return Answer({"files": [plan(file, files, ignored) for file in wanted["files"]]})


def plan(file: dict, files: dict[str, File], ignored: list[str]) -> dict:
    path = file["path"]
    names = [path, path.rsplit("/", 1)[-1], *(folder + "/" for folder in parents(path))]
    return {
        "path": path,
        "uploadMode": upload_mode(path, file["size"], base64.b64decode(file["sample"])),
        "shouldIgnore": any(fnmatch(name, pattern) for name in names for pattern in ignored),
        "oid": files[path].etag if path in files else None,
    }


@route("POST", "/api/{kind}/{id}/commit/{revision}")
def commit(hub, request: Request) -> Answer:
    repository = writable(hub, request)
    header, *lines = [json.loads(line) for line in request.body.splitlines()]
    changes = [change(line["key"], line["value"]) for line in lines]
    for _, path, *content in changes:
        if path == "README.md" and content and (errors := cards.problems(content[0].decode())[0]):
            raise HubError(400, f"Invalid metadata in README.md: {errors[0]}")
    about = header["value"]
    done = repository.commit(
        request.revision,
        changes,
        about["summary"],
        about.get("description", ""),
        require_account(request.account).name,
        about.get("parentCommit"),
    )
    return Answer(
        {"success": True, "commitOid": done.oid, "commitUrl": f"{address(hub, repository)}/commit/{done.oid}"}
    )


def change(kind: str, value: dict) -> tuple:
    if kind == "file":
        return kind, value["path"], base64.b64decode(value["content"])
    return (kind, value["path"], value["oid"]) if kind == "lfsFile" else (kind, value["path"])
