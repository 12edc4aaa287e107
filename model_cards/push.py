"""Pushes a checkpoint to the Hub, where it takes the place of the old one only once it was proved to load.

The files go up to a branch beside the one that readers see. From there they are downloaded into an empty cache,
compared with what was sent, and loaded in clean processes. Only then one commit has the readers' branch take them over,
so that it holds the old checkpoint or the new one, whole, whatever fails and whenever.
"""

import filecmp
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..configuration.errors import InputError
from ..configuration.version import __version__
from .adapters import find_base
from .card import write_card
from .contents import Contents, is_stale, some, survey
from .prove import Expected, examine, prove
from .refusals import in_one_sentence, patience

MAIN = "main"
BRANCH = re.compile(r"(?!refs/)[\w.-]+(/[\w.-]+)*")


@dataclass(frozen=True)
class Plan:
    """What would be pushed.

    Attributes:
        contents: the files.
        expected: what the model computes, or `None` if it is not to be loaded.
        unproved: why it is not.
        notes: what the card does not say, and what is not pushed, a sentence each.
    """

    contents: Contents
    expected: Expected | None
    unproved: str
    notes: list[str]

    def sentences(self) -> list[str]:
        """What a user wants to know before it is pushed."""
        files = [f"  {size:>14,} {name}" for name, size in self.contents.files.items()]
        total = f"{len(files)} files, {self.contents.size:,} bytes in all"
        return [*files, total, *self.notes]


@dataclass(frozen=True)
class Pushed:
    """What was pushed.

    Attributes:
        name: of the repository.
        revision: the branch.
        commit: where it is now.
        proof: what was proved, in a sentence.
        notes: what else is to be said, a sentence each.
    """

    name: str
    revision: str
    commit: str
    proof: str
    notes: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The page."""
        return f"{constants.ENDPOINT}/{self.name}" + (f"/tree/{self.revision}" if self.revision != MAIN else "")


def push(folder: str | Path, name: str, *, load: bool = True, trust: bool = False, **options: Any) -> Pushed:
    """Pushes a checkpoint to the Hub: [`prepare`], then [`publish`], which `options` are for."""
    check_names(name, options.get("revision", MAIN))
    return publish(prepare(folder, name, load=load, trust=trust), name, **options)


def prepare(folder: str | Path, name: str, *, load: bool = True, trust: bool = False) -> Plan:
    """Checks a checkpoint, refreshes its card, and loads it; sends nothing.

    Args:
        folder: where the model was saved.
        name: of the repository, which the card says how to load from.
        load: load the model, to have something to compare with; otherwise only bytes are compared.
        trust: code beside the model that this version of Trivium did not write may run.

    Raises:
        InputError: the folder holds no checkpoint, or one that must not be pushed; see [`survey`], [`examine`].
    """
    survey(Path(folder))  # before anything is written there
    lacking = _refresh_card(Path(folder), name)
    contents = survey(Path(folder))
    notes = [*contents.sentences(), *lacking]
    base = find_base(contents.folder) if contents.is_adapter else None
    if base and not base.on_hub:
        notes.append(f"adapter_config.json names its base model by a folder that others have not: '{base.name}'")
    if not load:
        return Plan(contents, None, "nobody asked to load it", notes)
    if base and not base.folder:
        return Plan(contents, None, "its base model is not on this machine", notes)
    return Plan(contents, examine(contents, trust), "", notes)


def _refresh_card(folder: Path, name: str) -> list[str]:
    """What the card lacks, or why it stays as it is, a sentence each."""
    try:
        card = write_card(folder, given={"repo_id": name} if "/" in name else None)
    except InputError as error:
        return [str(error)]
    return [f"the card does not say {what}" for what in card.missing]


def rehearse(plan: Plan) -> str:
    """Proves a copy on this machine, as [`publish`] proves what is on the Hub; returns what was proved."""
    if plan.expected is None:
        return f"not proved: {plan.unproved}"
    with TemporaryDirectory(prefix="trivium-push-") as work:
        copy = Path(work, "copy")
        for name in plan.contents.files:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).symlink_to((plan.contents.folder / name).resolve())
        return f"proved: a copy of it {prove(plan.expected, str(copy), None, Path(work, 'home'))}"


def publish(
    plan: Plan,
    name: str,
    *,
    revision: str = MAIN,
    private: bool = False,
    token: str | None = None,
    timeout: float = 120,
) -> Pushed:
    """Pushes what was prepared, in the steps that the module describes.

    Args:
        plan: from [`prepare`].
        name: of the repository, which is made if there is none; without a namespace the user's own.
        revision: the branch that readers see, for instance `step-1000` beside `main`.
        private: only those with access see it. What is public already is not pushed to.
        token: `None` = the one of the environment or of `hf auth login`.
        timeout: seconds to wait for a sign of the server.

    Raises:
        InputError: whatever the user can mend; it says what has become of the push.
    """
    check_names(name, revision)
    with TemporaryDirectory(prefix="trivium-push-") as work, patience(timeout):
        with in_one_sentence(name, token):
            api = HfApi(token=token)
            name = _open_repository(api, name, private, timeout)
            route = _plan_route(api, name, revision, plan.contents)
            message = f"Upload {plan.expected.architecture if plan.expected else 'files'} with Trivium {__version__}"
            uploaded = _upload(api, route, plan.contents, message)
            proof = _prove_uploaded(api, route, plan, uploaded, Path(work))
        with in_one_sentence(name, token, moving=True):
            commit = _take_over(api, route, plan.contents, message, uploaded)
        notes = [] if _delete_side(api, route) else [f"the branch '{route.side}' of the proof could not be deleted"]
    return Pushed(name, revision, commit, proof, notes)


def check_names(name: str, revision: str) -> None:
    """Raises `InputError` if no repository or no branch can have that name."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"'{name}' cannot be the name of a repository: {error}") from None
    if not BRANCH.fullmatch(revision):
        raise InputError(f"'{revision}' cannot be the name of a branch: take letters, digits, '-', '_' and '.'.")


def _open_repository(api: HfApi, name: str, private: bool, timeout: float) -> str:
    """Makes the repository if there is none; returns its full name. Nothing in it is changed."""
    user = api.whoami()["name"]
    name = name if "/" in name else f"{user}/{name}"
    api.create_repo(name, private=private or None, exist_ok=True)
    api.auth_check(name, write=True)  # that it was made before says nothing about rights
    if private and not api.model_info(name, timeout=timeout).private:
        raise InputError(f"'{name}' is public: make it private on its page, push without --private, or take a new name")
    return name


@dataclass(frozen=True)
class _Route:
    """From where to where: `branch` is what readers see, at the commit `head`, or not there yet (`is_new`).

    `side` is the branch beside it; `stale` are the files of `head` that the new checkpoint replaces by nothing.
    """

    name: str
    branch: str
    side: str
    head: str
    is_new: bool
    stale: list[str]

    @property
    def deletions(self) -> list[CommitOperationDelete]:
        return [CommitOperationDelete(path) for path in self.stale]


def _plan_route(api: HfApi, name: str, branch: str, contents: Contents) -> _Route:
    """Looks at what is there, and begins the branch beside it."""
    heads = {head.name: head.target_commit for head in api.list_repo_refs(name).branches}
    head, side = heads.get(branch, heads[MAIN]), f"trivium-push-{branch}"
    there = api.list_repo_files(name, revision=head)
    if side in heads:  # of a push that was interrupted; the objects that it sent are still there
        api.delete_branch(name, branch=side)
    api.create_branch(name, branch=side, revision=head)
    stale = [path for path in there if path not in contents.files and is_stale(path)]
    return _Route(name, branch, side, head, branch not in heads, stale)


def _upload(api: HfApi, route: _Route, contents: Contents, message: str) -> str:
    """The commit on the branch beside, which is `head` if there was nothing new."""
    additions = [CommitOperationAdd(path, contents.folder / path) for path in contents.files]
    return api.create_commit(
        route.name, [*additions, *route.deletions], commit_message=message, revision=route.side
    ).oid


def _prove_uploaded(api: HfApi, route: _Route, plan: Plan, commit: str, work: Path) -> str:
    """Downloads what arrived into an empty cache, compares it with what was sent, and proves it."""
    home, files, folder = work / "home", plan.contents.files, plan.contents.folder
    arrived = Path(
        api.snapshot_download(
            route.name, revision=commit, cache_dir=home / "hub", allow_patterns=list(files), max_workers=4
        )
    )
    try:
        # First, so that no code is run that is not the one that was sent.
        if wrong := [path for path in files if not _same(folder / path, arrived / path)]:
            raise InputError(f"the proof failed: what arrived is not what was sent ({some(wrong)})")
        if plan.expected is None:
            return f"not proved: {plan.unproved}; what arrived is what was sent, byte for byte"
        return f"proved: {route.name} at {commit[:10]} {prove(plan.expected, route.name, commit, home)}"
    except InputError:
        _delete_side(api, route)  # nobody should take it for a checkpoint
        raise


def _take_over(api: HfApi, route: _Route, contents: Contents, message: str, commit: str) -> str:
    """Has the branch that readers see hold what was proved, in one step; the commit that it is at then."""
    if route.is_new:
        api.create_branch(route.name, branch=route.branch, revision=commit)
    if route.is_new or commit == route.head:
        return commit
    copies = [CommitOperationCopy(path, path, src_revision=commit) for path in contents.files]
    return api.create_commit(
        route.name,
        [*copies, *route.deletions],
        commit_message=message,
        revision=route.branch,
        parent_commit=route.head,
    ).oid


def _delete_side(api: HfApi, route: _Route) -> bool:
    """Whether the branch beside is gone. If not, that is no reason to say that nothing was published."""
    with suppress(Exception):
        api.delete_branch(route.name, branch=route.side)
        return True
    return False


def _same(sent: Path, arrived: Path) -> bool:
    return arrived.is_file() and filecmp.cmp(sent, arrived, shallow=False)
