"""Fixtures of the tests of webhooks and e-mail: receivers on this machine, and who sends."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from app.config import Settings
from app.db.session import Database
from app.notifications.deliverer import Deliverer
from app.notifications.duty import open_deliverer
from tests.support.outbox import Outbox
from tests.support.people import People, Person
from tests.support.receiver import Receiver, receiving


@pytest.fixture
def lab(settings: Settings) -> Settings:
    """Settings under which this machine may be called, by http and on any port."""
    return settings.model_copy(
        update={
            "webhook_allow_http": True,
            "webhook_ports": [],
            "webhook_allowed_networks": [ip_network("127.0.0.0/8")],
        }
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def deliverer(database: Database, lab: Settings) -> AsyncIterator[Deliverer]:
    async with open_deliverer(database, lab) as deliverer:
        yield deliverer


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


@pytest.fixture
def outbox(database: Database, deliverer: Deliverer) -> Outbox:
    return Outbox(database, deliverer)
