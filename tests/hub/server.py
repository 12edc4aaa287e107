"""A Hub on the loopback interface, for the real client.

    with Hub() as hub:
        hub.api().create_repo("ada/model")
        hub.inject(on="POST .*/commit/", status=503)
        hub.files("ada/model")

Every request is answered whole under one lock: two of them never see each other's halves.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.hub import objects  # noqa: F401  registers its endpoints
from tests.hub.accounts import Account
from tests.hub.api import Answer, Request, answer
from tests.hub.faults import Fault
from tests.hub.store import Commit, Repository

USER = "ada"
TOKEN = "hf_ada"
READ_TOKEN = "hf_ada_reads"
OTHER_TOKEN = "hf_bob"
NO_PROXY = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
UNREAD = {"before": 0, "request": 0.5}  # the share of a body that is read before hanging up
IMPATIENT = Path(__file__).parent / "impatient"


class Hub:
    """A Hub that serves from when the context is entered until it is left, or `stop` is called.

    `requests` lists (method, path with its query) in the order in which they came; `downloads` lists (path in its
    repository, bytes) of each stretch of a file that was sent; `accounts` maps tokens to who they
    stand for, to begin with `TOKEN` and `READ_TOKEN` to ada, `OTHER_TOKEN` to bob; `repositories` maps (kind, id) to
    what is stored; `home` is the HF_HOME of the clients, empty to begin with.
    """

    def __init__(self):
        self.accounts = {TOKEN: Account(USER), READ_TOKEN: Account(USER, "read"), OTHER_TOKEN: Account("bob")}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.downloads: list[tuple[str, int]] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self.server: Server | None = None
        self.port = 0

    def __enter__(self) -> "Hub":
        self.folder = tempfile.TemporaryDirectory(prefix="hub-", ignore_cleanup_errors=True)
        self.home = Path(self.folder.name)
        self.start()
        return self

    def __exit__(self, *error) -> None:
        self.stop()
        self.folder.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serves, at the port that it had before if it was stopped; what is stored is still there."""
        self.stopping.clear()
        self.server = Server(("127.0.0.1", self.port), Handler, self)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Hangs up on everyone and refuses connections."""
        if self.server is None:
            return
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
        self.server.hang_up()
        self.server = None

    def inject(self, **fields) -> Fault:
        """Makes something go wrong, see `Fault`. Of several that meet a request the first befalls it."""
        self.faults.append(Fault(**fields))
        return self.faults[-1]

    def heal(self) -> None:
        """Takes all faults away."""
        self.faults.clear()

    def settle(self, seconds: float = 10) -> None:
        """Waits until all that clients who are gone asked for is done; closes the connections of this process first."""
        from huggingface_hub import close_session

        close_session()
        end = time.monotonic() + seconds
        while self.server.connections:
            assert time.monotonic() < end, "a client is still connected"
            time.sleep(0.005)

    def log(self, method: str, path: str) -> Fault | None:
        """Notes a request; returns the fault that befalls it."""
        with self.lock:
            self.requests.append((method, path))
            met = [fault for fault in self.faults if fault.meets(f"{method} {path}")]
        return met[0] if met else None

    def repository(self, name: str, kind: str = "model") -> Repository | None:
        """None if there is none of that name, as when its creation failed."""
        return self.repositories.get((kind, name))

    def files(self, name: str, revision: str = "main", kind: str = "model") -> dict[str, bytes]:
        """What a revision holds, without the .gitattributes that every repository begins with."""
        held = self.repositories[kind, name].resolve(revision).files
        return {path: file.data for path, file in held.items() if path != ".gitattributes"}

    def commits(self, name: str, revision: str = "main", kind: str = "model") -> list[Commit]:
        """The newest first, down to the initial one."""
        return self.repositories[kind, name].history(revision)

    def branches(self, name: str, kind: str = "model") -> dict[str, str]:
        return dict(self.repositories[kind, name].branches)

    def tags(self, name: str, kind: str = "model") -> dict[str, str]:
        return dict(self.repositories[kind, name].tags)

    def state(self) -> dict:
        """What anyone can see: two states are equal if nothing was published between them."""
        with self.lock:
            return {
                key: (repository.private, dict(repository.branches), dict(repository.tags))
                for key, repository in self.repositories.items()
            }

    def environment(self, token: str | None = TOKEN, patient: bool = False, **extra: str) -> dict[str, str]:
        """The environment of a client in another process; an impatient one does not wait between two tries."""
        foreign = ("HF_", "HUGGINGFACE", "TRANSFORMERS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        paths = [] if patient else [str(IMPATIENT)]
        if "PYTHONPATH" in kept:
            paths.append(kept["PYTHONPATH"])
        settings = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": os.pathsep.join(paths),
            **NO_PROXY,
        }
        return kept | settings | ({"HF_TOKEN": token} if token else {}) | extra

    def python(self, code: str, *arguments: object, cwd: Path | None = None, **settings) -> str:
        """What `code` prints in a process of its own, which must succeed; `settings` are those of `environment`."""
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, env=self.environment(**settings), cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def api(self, token: str | bool = TOKEN):
        """The real client in this process, `False` for nobody. Elsewhere than under the fixture `hub` it is offline."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.url, token=token)


class Server(ThreadingHTTPServer):
    """One thread a connection; remembers the connections, to hang up on them."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address, handler, hub: Hub):
        super().__init__(address, handler)
        self.hub = hub
        self.connections: set[socket.socket] = set()

    def hang_up(self) -> None:
        for connection in list(self.connections):
            close(connection)

    def handle_error(self, request, client_address) -> None:
        """A client that went away, or was sent away, is no news; anything else is a mistake in these files."""
        if not isinstance(sys.exception(), (OSError, ValueError)):
            super().handle_error(request, client_address)


def close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client may have been faster
        connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """Reads a request, lets a fault befall it, and writes the answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *message) -> None:
        """Prints nothing: `Hub.requests` is the log."""

    def serve(self) -> None:
        hub = self.server.hub
        fault = hub.log(self.command, self.path) or Fault()
        body = self.read_body(fault.cut)
        if fault.call:
            fault.call()
        hub.stopping.wait(fault.delay)
        if fault.cut in UNREAD or hub.stopping.is_set():
            return self.hang_up()
        if fault.status is not None:
            said = {"error": f"{fault.status} {HTTPStatus(fault.status).phrase}"}
            content = json.dumps(said).encode() if fault.body is None else fault.body
            return self.reply(Answer(content, fault.status, fault.headers))
        url = urlsplit(self.path)
        with hub.lock:
            answered = answer(hub, Request(self.command, url.path, url.query, self.headers, body))
        if fault.cut != "applied":
            self.reply(answered, half=fault.cut == "answer")
        if fault.cut is not None:
            self.hang_up()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def read_body(self, cut: str | None) -> bytes:
        if cut in UNREAD:
            return self.rfile.read(int(UNREAD[cut] * int(self.headers.get("Content-Length", 0))))
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.exactly(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.exactly(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def exactly(self, size: int) -> bytes:
        """A body that ends early came from a client that was killed: what it asked for is not done."""
        read = self.rfile.read(size)
        if len(read) < size:
            raise ConnectionError("the client went away")
        return read

    def reply(self, answered: Answer, half: bool = False) -> None:
        """Writes the answer, or its first half: of a small one not even all headers, of a large one half the body."""
        kind = "application/octet-stream" if isinstance(answered.content, bytes) else "application/json"
        headers = {"Content-Type": kind, "Content-Length": str(len(answered.body)), **answered.headers}
        lines = [f"HTTP/1.1 {answered.status} {HTTPStatus(answered.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        whole = head if self.command == "HEAD" else head + answered.body
        self.wfile.write(whole[: len(whole) // 2] if half else whole)

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        close(self.connection)
