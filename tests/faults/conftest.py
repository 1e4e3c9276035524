"""Fixtures of the tests of faults."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from app.db.session import Database
from app.queueing.dispatcher import Dispatcher
from tests.faults.proxy import FaultProxy
from tests.support.runs import Stage
from tests.support.worker import FakeWorker


@pytest.fixture
def stage(worker: FakeWorker, dispatcher: Dispatcher, database: Database) -> Stage:
    """What it takes to run jobs."""
    return Stage(worker, dispatcher, database)


@pytest.fixture
def proxy(api_url: str) -> Iterator[FaultProxy]:
    """The way to the API, for whoever should have a bad one."""
    port = urlsplit(api_url).port
    assert port is not None
    with FaultProxy(port) as proxy:
        yield proxy
