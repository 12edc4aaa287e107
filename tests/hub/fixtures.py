"""The fixture `hub`; a folder of tests has it by importing it into its conftest.py."""

import time
from types import SimpleNamespace

import huggingface_hub
import pytest
import transformers
from huggingface_hub import constants
from huggingface_hub.hf_api import api

from tests.hub.server import NO_PROXY, TOKEN, Hub


@pytest.fixture
def hub(monkeypatch):
    """An empty Hub, at which huggingface_hub in this process points too: online, as ada, with a cache of its own."""
    with Hub() as served:
        settings = {
            "ENDPOINT": served.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": served.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HOME": str(served.home),
            "HF_HUB_CACHE": str(served.home / "hub"),
            "HF_TOKEN_PATH": str(served.home / "token"),
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(api, "endpoint", served.url)
        # transformers makes its client when it first needs one, and keeps it.
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
        for name, value in {"HF_TOKEN": TOKEN, **NO_PROXY}.items():
            monkeypatch.setenv(name, value)
        for module in (huggingface_hub.utils._http, huggingface_hub.file_download):
            monkeypatch.setattr(module, "time", SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None}))
        huggingface_hub.close_session()
        huggingface_hub.HfFileSystem.clear_instance_cache()  # they remember where their Hub is
        yield served
        huggingface_hub.close_session()
