"""Faults do what they say, and the real client meets them as its code promises."""

import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy
from huggingface_hub.errors import HfHubHTTPError

from tests.hub.faults import FOREVER, Fault

NAME = "ada/model"
WEIGHTS = bytes(range(256)) * 4000
UPLOAD = """
import sys
from huggingface_hub import CommitOperationAdd, HfApi
files = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 4000}
operations = [CommitOperationAdd(path, data) for path, data in files.items()]
HfApi().create_repo("ada/model", exist_ok=True)
print(HfApi().create_commit("ada/model", operations, commit_message="Upload").oid)
"""


@pytest.fixture
def api(hub):
    api = hub.api()
    api.create_repo(NAME)
    hub.requests.clear()
    return api


def upload(api, **options):
    operations = [CommitOperationAdd("config.json", b"{}"), CommitOperationAdd("model.safetensors", WEIGHTS)]
    return api.create_commit(NAME, operations, commit_message="Upload", **options)


def paths(hub, method):
    return [path for verb, path in hub.requests if verb == method]


def test_a_fault_meets_the_requests_that_it_names():
    fault = Fault(on="PUT", after=1, times=2)
    assert [fault.meets(request) for request in ["GET /a", "PUT /a", "PUT /b", "GET /PUT", "PUT /c"]] == [
        *(False, False, True, True, False)
    ]
    assert fault.fired == 2 and Fault(times=FOREVER).meets("anything")


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412, 413, 429, 500, 502, 503, 507])
def test_a_refused_commit_changes_nothing(hub, api, status):
    before = hub.state()
    hub.inject(on="POST .*/commit/", status=status)
    with pytest.raises(HfHubHTTPError, match=str(status)) as error:
        upload(api)
    assert error.value.response.status_code == status and hub.state() == before
    upload(api)
    assert hub.files(NAME)["model.safetensors"] == WEIGHTS


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("on", ["/preupload/", "/objects/batch", "PUT", "/objects/verify"])
def test_uploads_outlive_five_passing_faults(hub, api, on, status):
    fault = hub.inject(on=on, status=status, times=5)
    upload(api)
    assert fault.fired == 5 and hub.files(NAME)["model.safetensors"] == WEIGHTS


def test_the_sixth_fault_is_final(hub, api):
    fault = hub.inject(on="PUT", status=503, times=FOREVER)
    with pytest.raises(RuntimeError, match="Error while uploading"):
        upload(api)
    assert fault.fired == 6 and hub.files(NAME) == {}


def test_an_object_that_arrived_before_the_fault_is_not_sent_again(hub, api):
    hub.inject(on="/commit/", status=500)
    with pytest.raises(HfHubHTTPError):
        upload(api)
    hub.requests.clear()
    upload(api)
    assert paths(hub, "PUT") == [] and hub.files(NAME)["model.safetensors"] == WEIGHTS


@pytest.mark.parametrize("cut", ["before", "request", "answer"])
def test_a_connection_that_breaks_in_an_upload_is_made_again(hub, api, cut):
    fault = hub.inject(on="PUT", cut=cut)
    upload(api)
    assert fault.fired == 1 and len(paths(hub, "PUT")) == 2 and hub.files(NAME)["model.safetensors"] == WEIGHTS


@pytest.mark.parametrize(("cut", "done"), [("before", False), ("request", False), ("applied", True), ("answer", True)])
def test_a_commit_whose_answer_is_lost_was_made_or_was_not(hub, api, cut, done):
    hub.inject(on="/commit/", cut=cut)
    with pytest.raises(httpx2.TransportError):
        upload(api)
    assert (hub.files(NAME).get("model.safetensors") == WEIGHTS) is done and len(paths(hub, "POST")) == 4
    upload(api)
    assert len(hub.commits(NAME)) == 2


def test_a_download_goes_on_where_it_was_cut(hub, api):
    upload(api)
    hub.requests.clear()
    hub.inject(on="GET .*safetensors", cut="answer")
    assert Path(api.hf_hub_download(NAME, "model.safetensors")).read_bytes() == WEIGHTS
    assert len([path for path in paths(hub, "GET") if "safetensors" in path]) == 2


def test_a_slow_answer_is_waited_for(hub, api):
    hub.inject(on="/commit/", delay=0.3)
    start = time.monotonic()
    upload(api)
    assert time.monotonic() - start > 0.3


def test_a_server_that_is_down_refuses_and_comes_back_with_what_it_had(hub, api):
    upload(api)
    hub.stop()
    with pytest.raises(httpx2.ConnectError):
        api.model_info(NAME)
    hub.start()
    assert api.model_info(NAME).sha == hub.branches(NAME)["main"]


def test_a_page_in_place_of_json_is_passed_on(hub, api):
    hub.inject(status=502, headers={"Content-Type": "text/html"}, body=b"<html>Bad gateway</html>")
    with pytest.raises(HfHubHTTPError, match="502"):
        api.model_info(NAME)


def publish(api, cache):
    """Uploads to a side branch, reads back what arrived, and has main take it over in one commit."""
    main = api.create_repo(NAME, exist_ok=True) and api.model_info(NAME).sha
    api.create_branch(NAME, branch="upload", revision=main, exist_ok=True)
    arrived = upload(api, revision="upload").oid
    api.snapshot_download(NAME, revision=arrived, cache_dir=cache)
    copies = [CommitOperationCopy(path, path, src_revision=arrived) for path in ("config.json", "model.safetensors")]
    api.create_commit(NAME, copies, commit_message="Publish", parent_commit=main)
    api.delete_branch(NAME, branch="upload")


def test_whatever_request_fails_main_is_the_old_or_the_new(hub, tmp_path):
    publish(hub.api(), tmp_path / "clean")
    steps, new = len(hub.requests), hub.files(NAME)
    assert steps > 15 and new.keys() == {"config.json", "model.safetensors"}
    for cut in ("request", "answer"):
        for step in range(steps):
            hub.heal()
            hub.repositories.clear()
            hub.inject(after=step, cut=cut, times=FOREVER)
            with pytest.raises(Exception):  # noqa: B017  whichever the client chooses
                publish(hub.api(), tmp_path / f"{cut}-{step}")
            assert hub.repository(NAME) is None or hub.files(NAME) in ({}, new)
            hub.heal()
            if hub.repository(NAME) is None or hub.files(NAME) == {}:
                publish(hub.api(), tmp_path / f"{cut}-{step}-again")
            assert hub.files(NAME) == new


@pytest.mark.parametrize("cut", ["request", "applied"])
def test_a_client_can_be_killed_at_a_request(hub, cut):
    client = subprocess.Popen([sys.executable, "-c", UPLOAD], env=hub.environment(), stdout=subprocess.PIPE)
    fault = hub.inject(on="/commit/", call=client.kill, cut=cut)
    output, _ = client.communicate(timeout=60)
    hub.settle()
    assert fault.fired == 1 and client.returncode == -9 and output == b""
    assert (hub.files(NAME) == {}) is (cut == "request")
    oid = hub.python(UPLOAD).strip()
    assert len(paths(hub, "PUT")) == 1 and hub.branches(NAME) == {"main": oid}


def test_an_impatient_client_gives_up_at_once(hub):
    hub.inject(on="/preupload/", status=503, times=FOREVER)
    start = time.monotonic()
    with pytest.raises(AssertionError, match="503"):
        hub.python(UPLOAD)
    assert time.monotonic() - start < 20
