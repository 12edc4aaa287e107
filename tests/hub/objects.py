"""The endpoints that carry bytes: LFS uploads, and files downloaded at a revision."""

import re
from hashlib import sha256
from urllib.parse import quote

from tests.hub.api import Answer, Request, address, readable, route, writable
from tests.hub.store import File, HubError

PARTIAL = re.compile(r"bytes=(\d*)-(\d*)")


@route("POST", r"/{prefix}{id}\.git/info/lfs/objects/batch")
def batch(hub, request: Request) -> Answer:
    """Says where to send the objects that are not here yet; nothing is to be done for the others."""
    repository = writable(hub, request)
    where = f"{address(hub, repository)}.git/info/lfs/objects"

    def answered(wanted: dict) -> dict:
        here = wanted["oid"] in repository.objects
        actions = {"upload": {"href": f"{where}/{wanted['oid']}"}, "verify": {"href": f"{where}/verify"}}
        return {"oid": wanted["oid"], "size": wanted["size"]} | ({} if here else {"actions": actions})

    return Answer({"transfer": "basic", "objects": [answered(wanted) for wanted in request.json["objects"]]})


@route("PUT", r"/{prefix}{id}\.git/info/lfs/objects/(?P<oid>[0-9a-f]{{64}})")
def upload(hub, request: Request) -> Answer:
    """Takes an object that is what its name says. On the real Hub the address is signed, here it is open."""
    repository = hub.repositories.get((request.kind, request.parts["id"]))
    if repository is None or sha256(request.body).hexdigest() != request.parts["oid"]:
        raise HubError(400, "The object is not the one that was announced")
    repository.objects[request.parts["oid"]] = request.body
    return Answer()


@route("POST", r"/{prefix}{id}\.git/info/lfs/objects/verify")
def verify(hub, request: Request) -> Answer:
    held = writable(hub, request).objects.get(request.json["oid"])
    if held is None or len(held) != request.json["size"]:
        raise HubError(404, "The object was not uploaded")
    return Answer({})


@route("HEAD", "/{prefix}{id}/resolve/{revision}/{path}")
@route("GET", "/{prefix}{id}/resolve/{revision}/{path}")
def resolve(hub, request: Request) -> Answer:
    repository = readable(hub, request)
    commit = repository.resolve(request.revision)
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    if request.parts["path"] not in commit.files:
        missing = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        return Answer(b"Entry not found", 404, headers | missing)
    file = commit.files[request.parts["path"]]
    name = quote(request.parts["path"].rsplit("/", 1)[-1])
    headers |= {
        "ETag": f'"{file.etag}"',
        "Content-Disposition": f"inline; filename*=UTF-8''{name}; filename=\"{name}\";",
    }
    if file.lfs:
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data))}
    answered = part(file, request.headers.get("Range"), headers)
    if request.method == "GET":
        hub.downloads.append((request.parts["path"], len(answered.body)))
    return answered


def part(file: File, wanted: str | None, headers: dict[str, str]) -> Answer:
    """The bytes that a Range header asks for, all of them without one."""
    size = len(file.data)
    match = PARTIAL.fullmatch(wanted or "")
    if match is None:
        return Answer(file.data, 200, headers)
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        return Answer(b"", 416, headers | {"Content-Range": f"bytes */{size}"})
    return Answer(file.data[start:stop], 206, headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"})
