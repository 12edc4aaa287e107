"""Who may see and change what, as the real client is told."""

import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.hub.accounts import Account
from tests.hub.server import OTHER_TOKEN, READ_TOKEN

NAME = "ada/model"


@pytest.fixture
def api(hub):
    api = hub.api()
    api.create_repo(NAME)
    api.upload_file(repo_id=NAME, path_or_fileobj=b"1", path_in_repo="a.txt")
    return api


def status(error):
    return error.value.response.status_code


def test_a_token_is_someone(hub):
    hub.accounts["hf_eve"] = Account("eve", "read", ("lab",))
    said = hub.api("hf_eve").whoami()
    assert said["name"] == "eve" and [organization["name"] for organization in said["orgs"]] == ["lab"]
    assert said["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token") as error:
        hub.api("hf_nobody").whoami()
    assert status(error) == 401


@pytest.mark.parametrize("token", [False, OTHER_TOKEN])
def test_a_private_repository_is_hidden_from_others(hub, api, token):
    stranger = hub.api(token)
    assert stranger.model_info(NAME).private is False
    api.update_repo_settings(NAME, private=True)
    assert hub.repository(NAME).private and hub.api(READ_TOKEN).model_info(NAME).private
    for call in (
        lambda: stranger.model_info(NAME),
        lambda: stranger.list_repo_files(NAME),
        lambda: stranger.snapshot_download(NAME, cache_dir=hub.home / "stranger"),
        lambda: stranger.hf_hub_download(NAME, "a.txt", cache_dir=hub.home / "stranger"),
        lambda: stranger.upload_file(repo_id=NAME, path_or_fileobj=b"x", path_in_repo="x"),
    ):
        with pytest.raises(RepositoryNotFoundError) as error:
            call()
        assert status(error) == (404 if token else 401)


@pytest.mark.parametrize(
    ("token", "refused"), [(False, 401), (OTHER_TOKEN, 403), (READ_TOKEN, 403), ("hf_nobody", 401)]
)
def test_nobody_writes_without_the_right_to(hub, api, token, refused):
    before = hub.state()
    stranger = hub.api(token)
    for call in (
        lambda: stranger.create_repo("ada/other"),
        lambda: stranger.upload_file(repo_id=NAME, path_or_fileobj=b"x", path_in_repo="x"),
        lambda: stranger.create_branch(NAME, branch="b"),
        lambda: stranger.create_tag(NAME, tag="t"),
        lambda: stranger.delete_repo(NAME),
        lambda: stranger.update_repo_settings(NAME, private=True),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            call()
        assert status(error) == refused
    assert hub.state() == before


def test_members_write_to_their_organization(hub):
    hub.accounts["hf_eve"] = Account("eve", organizations=("lab",))
    hub.api("hf_eve").create_repo("lab/model", private=True)
    assert hub.repository("lab/model").private
