"""Fixtures of the tests of faults."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from devstack.client import Client
from tests.faults.cluster import Cluster
from tests.faults.proxy import FaultProxy
from tests.faults.site import Site


@pytest.fixture
def proxy(api_url: str) -> Iterator[FaultProxy]:
    """The way to the API, for whoever should have a bad one."""
    port = urlsplit(api_url).port
    assert port is not None
    with FaultProxy(port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A platform whose parts reach each other by proxies."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def site(cluster: Cluster) -> Iterator[Site]:
    """That platform, whole again, with a user of its own."""
    cluster.heal()
    for service in cluster.stack.services.values():
        service.start()
    account = cluster.add_account()
    with Client(cluster.stack.api_url, account.key) as client:
        yield Site(cluster, account, client)
    cluster.heal()
