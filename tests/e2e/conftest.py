"""The whole platform as separate processes, with short waits between attempts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.client import Client
from devstack.settings import fresh_settings
from devstack.stack import Stack

SAMPLE = Path(__file__).resolve().parents[2] / "devstack" / "samples" / "duck.png"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    settings = {
        **fresh_settings(),
        "LEASE_SECONDS": "6",
        "HEARTBEAT_SECONDS": "1",
        "RETRY_BASE_SECONDS": "0.5",
        "LOG_FORMAT": "json",
        "WORKER_PIPELINES": "stepwise=tests.e2e.stepwise_pipeline:Stepwise",
        "WORKER_WORK_DIR": str(folder / "work"),
    }
    with Stack(folder, settings=settings, fast=True) as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.api_url, stack.admin_api_key) as client:
        yield client
