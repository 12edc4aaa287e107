"""What goes wrong on the way to the Hub, in one sentence each; never with an access token in it."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any

from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import _http, get_token

from ..configuration.errors import InputError

TOKEN = re.compile(r"\bhf_\w+")
LONGEST = 300  # characters of what a server says
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNTOUCHED = "nothing was published"
UNKNOWN = "whether it was published before that is not known: push again to be sure"
NO_TOKEN = "there is no access token: run `hf auth login`, or set HF_TOKEN"
# What a status of the Hub means here; any other is passed on with what the server says.
STATUSES = {
    401: "the Hub does not know the access token: make a new one on {hub}/settings/tokens and set HF_TOKEN to it",
    403: "the access token has no right to write to '{name}': take one that has, or another name",
    404: "the Hub has no '{name}' that the access token may see",
    412: "'{name}' was changed by somebody else meanwhile: look at what it is now, and push again",
    429: "the Hub wants fewer requests for a while: push again later",
}
# httpx became httpx2; the classes are told by their names.
BROKEN = {
    "Timeout": "the Hub at {hub} does not answer",
    "ConnectError": "the Hub at {hub} cannot be reached: check the network",
    "Error": "the connection to the Hub at {hub} broke off",
}


@contextmanager
def in_one_sentence(name: str, token: str | None, moving: bool = False) -> Iterator[None]:
    """Turns what the Hub, the network and the disk do to a push into `InputError`.

    Args:
        name: of the repository.
        token: the one that is used, if it is not the one that was stored.
        moving: the branch that readers see may have moved by now.
    """
    try:
        yield
    except Exception as error:
        explained = (str(link) if isinstance(link, InputError) else _explain(link, name) for link in _chain(error))
        sentence = next(filter(None, explained), None)
        if sentence is None:
            raise
        refused = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        outcome = UNKNOWN if moving and not refused else UNTOUCHED
        # Not `from error`: what a server says may hold the token, and a traceback would show it.
        raise InputError(_without_tokens(f"{sentence.rstrip('.')}; {outcome}.", token)) from None


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Lets no request of huggingface_hub wait longer than this for a sign of the server; by itself it may for ever."""
    before = _http._GLOBAL_CLIENT_FACTORY

    def limit(request: Any) -> None:
        waits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            kind: seconds if waits.get(kind) is None else waits[kind] for kind in ("connect", "read", "write", "pool")
        }

    def make_client() -> Any:
        client = before()
        client.event_hooks["request"].append(limit)
        return client

    set_client_factory(make_client)
    try:
        yield
    finally:
        set_client_factory(before)


def _explain(error: BaseException, name: str) -> str | None:
    """What one error means, or `None` where it says nothing that a user could use."""
    hub = constants.ENDPOINT
    if isinstance(error, LocalTokenNotFoundError):
        return NO_TOKEN
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing can be pushed: unset it"
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, name)
    if isinstance(error, HfHubHTTPError.__bases__[0]):
        kind = next(kind for kind in BROKEN if kind in type(error).__name__ or kind == "Error")
        return BROKEN[kind].format(hub=hub)
    if isinstance(error, JSONDecodeError):
        return f"what answers at {hub} is no Hub, or one in trouble: it sent something other than JSON"
    if isinstance(error, ValueError) and "metadata in README.md" in str(error):
        return f"the Hub refuses the card: {' '.join(str(error).split())}"
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return "the proof failed: what arrived is not what was sent"
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return "no space is left on this machine for the copy that is proved: free some, or set TMPDIR to another place"
    return None


def _explain_status(error: HfHubHTTPError, name: str) -> str:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"'{name}' is gated, and the access token has not been let in: ask for access on its page"
    if isinstance(error, RepositoryNotFoundError):
        status = 404
    said = f": {' '.join(error.server_message.split())[:LONGEST]}" if error.server_message else ""
    other = f"the Hub at {constants.ENDPOINT} answered {status} {error.response.reason_phrase}{said}".rstrip(". ")
    return STATUSES.get(status, "").format(name=name, hub=constants.ENDPOINT) or other


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _without_tokens(text: str, token: str | None) -> str:
    for secret in filter(None, (token, get_token())):
        text = text.replace(secret, "<token>")
    return TOKEN.sub("<token>", text)
