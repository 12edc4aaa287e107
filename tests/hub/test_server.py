"""The loopback Hub, seen through the real client in this process."""

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, hf_hub_download
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

from tests.hub.store import LFS_SIZE

NAME = "ada/model"
FILES = {
    "README.md": b"---\nlicense: mit\npipeline_tag: text-generation\n---\n# A model\n",
    "config.json": b'{"hidden_size": 32}',
    "model.safetensors": bytes(range(256)) * 400,
    "assets/loss.png": b"\x89PNG\0",
    "deep/er/notes.txt": "naïve café".encode(),
    "empty.bin": b"",
}


@pytest.fixture
def api(hub):
    api = hub.api()
    api.create_repo(NAME)
    return api


@pytest.fixture
def folder(tmp_path):
    for path, data in FILES.items():
        (tmp_path / "checkpoint" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkpoint" / path).write_bytes(data)
    return tmp_path / "checkpoint"


def add(api, revision=None, parent_commit=None, **files):
    operations = [CommitOperationAdd(f"{path}.txt", text.encode()) for path, text in files.items()]
    message = " ".join(files)
    return api.create_commit(
        NAME, operations, commit_message=message, revision=revision, parent_commit=parent_commit
    ).oid


def status(error):
    return error.value.response.status_code


def read(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_repository_is_created_once_and_deleted(hub):
    api = hub.api()
    assert api.create_repo("model") == f"{hub.url}/{NAME}"
    with pytest.raises(HfHubHTTPError, match="already created this model repo") as error:
        api.create_repo(NAME)
    assert status(error) == 409
    api.create_repo(NAME, exist_ok=True)
    api.create_repo(NAME, repo_type="dataset")
    assert api.repo_exists(NAME, repo_type="dataset") and not api.repo_exists("ada/other")
    api.delete_repo(NAME)
    assert hub.repository(NAME) is None and hub.repository(NAME, "dataset") is not None
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(NAME)
    api.delete_repo(NAME, missing_ok=True)


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_folder_comes_back_as_it_was_uploaded(hub, folder, kind):
    api = hub.api()
    api.create_repo(NAME, repo_type=kind, space_sdk="static" if kind == "space" else None)
    done = api.upload_folder(repo_id=NAME, repo_type=kind, folder_path=folder, commit_message="All of it")
    assert hub.files(NAME, kind=kind) == FILES
    assert [commit.title for commit in hub.commits(NAME, kind=kind)] == ["All of it", "initial commit"]
    assert hub.branches(NAME, kind) == {"main": done.oid}
    downloaded = read(folder.parent.joinpath(api.snapshot_download(NAME, repo_type=kind)))
    assert downloaded.pop(".gitattributes") and downloaded == FILES
    assert set(api.list_repo_files(NAME, repo_type=kind)) == {".gitattributes", *FILES}


def test_binary_and_large_files_go_through_lfs(hub, api, folder):
    api.upload_folder(repo_id=NAME, folder_path=folder)
    (folder / "large.txt").write_bytes(b"a" * (LFS_SIZE + 1))
    api.upload_file(repo_id=NAME, path_or_fileobj=folder / "large.txt", path_in_repo="large.txt")
    api.upload_file(repo_id=NAME, path_or_fileobj=b"\xff\0\xff\0", path_in_repo="bytes")
    held = hub.repository(NAME).resolve("main").files
    assert {path for path, file in held.items() if file.lfs} == {
        *("model.safetensors", "assets/loss.png", "large.txt", "bytes")
    }
    listed = {entry.path: entry for entry in api.list_repo_tree(NAME, recursive=True)}
    assert listed["model.safetensors"].lfs.sha256 == held["model.safetensors"].sha256
    assert listed["config.json"].lfs is None and listed["config.json"].size == len(FILES["config.json"])


def test_what_is_there_is_not_sent_again(hub, api, folder):
    first = api.upload_folder(repo_id=NAME, folder_path=folder)
    hub.requests.clear()
    assert api.upload_folder(repo_id=NAME, folder_path=folder).oid == first.oid
    assert not [path for method, path in hub.requests if method == "PUT" or "/commit/" in path]


def test_the_tree_is_listed_level_by_level(api, folder):
    api.upload_folder(repo_id=NAME, folder_path=folder)
    assert {entry.path for entry in api.list_repo_tree(NAME, "deep")} == {"deep/er"}
    assert {entry.path for entry in api.list_repo_tree(NAME, "deep", recursive=True)} == {
        "deep/er",
        "deep/er/notes.txt",
    }
    assert {"assets", "deep", "config.json"} < {entry.path for entry in api.list_repo_tree(NAME)}
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(NAME, "nowhere"))


def test_the_information_says_what_the_card_says(hub, api, folder):
    api.upload_folder(repo_id=NAME, folder_path=folder)
    told = api.model_info(NAME, files_metadata=True)
    assert (told.sha, told.pipeline_tag, told.card_data.license) == (
        hub.branches(NAME)["main"],
        "text-generation",
        "mit",
    )
    assert {file.rfilename: file.size for file in told.siblings}["model.safetensors"] == len(FILES["model.safetensors"])
    assert told.private is False


@pytest.mark.parametrize(
    "text", ["---\nlicense: [mit\n---\n", "---\n- a list\n---\n", "---\nmodel-index:\n- name: x\n---\n"]
)
def test_a_card_that_is_not_valid_is_refused(hub, api, text):
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(repo_id=NAME, path_or_fileobj=text.encode(), path_in_repo="README.md")
    assert hub.files(NAME) == {}


def test_a_card_without_metadata_is_warned_of(api):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api.upload_file(repo_id=NAME, path_or_fileobj=b"# Title", path_in_repo="README.md")


def test_branches_and_tags_stay_where_they_are(hub, api):
    first = add(api, a="1")
    api.create_branch(NAME, branch="step/10", revision=first)
    api.create_tag(NAME, tag="v1")
    second = add(api, a="2")
    third = add(api, revision="step/10", b="3")
    assert hub.branches(NAME) == {"main": second, "step/10": third} and hub.tags(NAME) == {"v1": first}
    assert hub.files(NAME, "step/10") == {"a.txt": b"1", "b.txt": b"3"} and hub.files(NAME, "v1") == {"a.txt": b"1"}
    refs = api.list_repo_refs(NAME)
    assert {branch.name: branch.target_commit for branch in refs.branches} == hub.branches(NAME)
    assert {tag.ref: tag.target_commit for tag in refs.tags} == {"refs/tags/v1": first}
    assert [commit.title for commit in api.list_repo_commits(NAME)] == ["a", "a", "initial commit"]
    assert [commit.commit_id for commit in api.list_repo_commits(NAME, revision="step/10")][:2] == [third, first]
    for revision, oid in {"main": second, "step/10": third, "v1": first, first: first}.items():
        assert api.repo_info(NAME, revision=revision).sha == oid
    for create in (lambda: api.create_branch(NAME, branch="step/10"), lambda: api.create_tag(NAME, tag="v1")):
        with pytest.raises(HfHubHTTPError) as error:
            create()
        assert status(error) == 409
    api.create_branch(NAME, branch="step/10", exist_ok=True)
    api.create_tag(NAME, tag="v1", exist_ok=True)
    api.delete_branch(NAME, branch="step/10")
    api.delete_tag(NAME, tag="v1")
    assert hub.branches(NAME) == {"main": second} and hub.tags(NAME) == {}
    with pytest.raises(HfHubHTTPError) as error:
        api.delete_branch(NAME, branch="main")
    assert status(error) == 403


@pytest.mark.parametrize("revision", ["absent", "0" * 40])
def test_a_revision_that_is_not_there_is_not_found(hub, api, revision):
    for call in (
        lambda: api.repo_info(NAME, revision=revision),
        lambda: hf_hub_download(NAME, "config.json", revision=revision),
        lambda: add(api, revision=revision, a="1"),
        lambda: api.create_branch(NAME, branch="x", revision=revision),
        lambda: api.create_tag(NAME, tag="x", revision=revision),
    ):
        with pytest.raises(RevisionNotFoundError):
            call()
    assert len(hub.commits(NAME)) == 1


def test_a_commit_on_an_old_parent_is_refused(hub, api):
    parent = hub.branches(NAME)["main"]
    add(api, a="1", parent_commit=parent)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        add(api, a="2", parent_commit=parent)
    assert status(error) == 412 and hub.files(NAME) == {"a.txt": b"1"}


def test_a_commit_is_all_or_nothing(hub, api):
    before = hub.state()
    operations = [CommitOperationAdd("a.txt", b"1"), CommitOperationDelete("absent.txt")]
    with pytest.raises(RemoteEntryNotFoundError):
        api.create_commit(NAME, operations, commit_message="half")
    assert hub.state() == before and hub.files(NAME) == {}


def test_an_object_that_was_not_sent_cannot_be_committed(hub, api):
    addition = CommitOperationAdd("model.safetensors", b"weights")
    addition._upload_mode, addition._is_uploaded, addition._should_ignore = "lfs", True, False
    with pytest.raises(BadRequestError, match="does not exist"):
        api.create_commit(NAME, [addition], commit_message="pointer to nothing")
    assert hub.files(NAME) == {}


def test_files_and_folders_are_deleted_with_what_is_added(hub, api, folder):
    api.upload_folder(repo_id=NAME, folder_path=folder)
    for path in ("config.json", "model.safetensors"):
        (folder / path).unlink()
    (folder / "new.txt").write_text("new")
    api.upload_folder(repo_id=NAME, folder_path=folder, delete_patterns="*")
    assert hub.files(NAME) == read(folder)
    api.create_commit(NAME, [CommitOperationDelete("deep/")], commit_message="a folder")
    assert "deep/er/notes.txt" not in hub.files(NAME)


def test_files_that_git_ignores_stay_at_home(hub, api, folder):
    (folder / ".gitignore").write_text("*.txt\nassets/\n")
    api.upload_folder(repo_id=NAME, folder_path=folder)
    assert hub.files(NAME).keys() == {".gitignore", *FILES} - {"deep/er/notes.txt", "assets/loss.png"}


def test_main_takes_over_what_a_branch_was_proved_to_hold_in_one_commit(hub, api, folder):
    add(api, stale="1")
    main = hub.branches(NAME)["main"]
    api.create_branch(NAME, branch="upload")
    proved = api.upload_folder(repo_id=NAME, folder_path=folder, revision="upload", delete_patterns="*").oid
    hub.requests.clear()
    there, here = (set(api.list_repo_files(NAME, revision=revision)) for revision in (proved, main))
    operations = [CommitOperationCopy(path, path, src_revision=proved) for path in sorted(there)]
    operations += [CommitOperationDelete(path) for path in sorted(here - there)]
    api.create_commit(NAME, operations, commit_message="Publish", parent_commit=main)
    assert hub.files(NAME) == hub.files(NAME, "upload") == FILES
    assert [commit.oid for commit in hub.commits(NAME)[1:]] == [main, hub.commits(NAME)[-1].oid]
    assert not [path for method, path in hub.requests if method == "PUT" or "safetensors" in path]


@pytest.mark.parametrize("wanted", ["bytes=5-9", "bytes=100-", "bytes=-7", "bytes=0-0", None])
def test_a_range_of_a_file_can_be_had(hub, api, folder, wanted):
    api.upload_folder(repo_id=NAME, folder_path=folder)
    url = f"{hub.url}/{NAME}/resolve/main/model.safetensors"
    got = get_session().get(url, headers={"Range": wanted} if wanted else {})
    start, stop = {"bytes=5-9": (5, 10), "bytes=100-": (100, None), "bytes=-7": (-7, None), "bytes=0-0": (0, 1)}.get(
        wanted, (None, None)
    )
    assert got.content == FILES["model.safetensors"][start:stop] and got.status_code == (206 if wanted else 200)
    assert get_session().get(url, headers={"Range": "bytes=999999-"}).status_code == 416


def test_a_file_is_had_by_branch_tag_and_commit(hub, api):
    first = add(api, a="1")
    api.create_tag(NAME, tag="v1")
    add(api, a="2")
    for revision, text in {"main": "2", "v1": "1", first: "1"}.items():
        with open(hf_hub_download(NAME, "a.txt", revision=revision)) as file:
            assert file.read() == text
    assert api.file_exists(NAME, "a.txt") and not api.file_exists(NAME, "b.txt")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(NAME, "b.txt")
