"""The whole platform as separate processes, with short waits between attempts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.client import Client
from devstack.settings import fresh_settings, unlimited
from devstack.stack import Stack

SAMPLE = Path(__file__).resolve().parents[2] / "devstack" / "samples" / "duck.png"

MODEL = "stepwise-v1"
PARAMETERS = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "hold_at": {"type": "integer", "minimum": 0, "maximum": 100},
        "noise": {"type": "boolean"},
    },
}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    settings = {
        **fresh_settings(),
        **unlimited(),
        "LEASE_SECONDS": "6",
        "HEARTBEAT_SECONDS": "1",
        "RETRY_BASE_SECONDS": "0.5",
        "LOG_FORMAT": "json",
        "WORKER_PIPELINES": "stepwise=tests.e2e.stepwise_pipeline:Stepwise",
        "WORKER_WORK_DIR": str(folder / "work"),
    }
    with Stack(folder, settings=settings, fast=True) as stack:
        yield stack


@pytest.fixture(scope="session")
def stepwise(stack: Stack) -> str:
    """The model that the test's own pipeline serves."""
    assert stack.postgres is not None
    stack.postgres.psql(
        "INSERT INTO models (id, name, description, kind, version, licence, pipeline,"  # noqa: S608
        " queue, prompt_policy, main_artifact, max_attempts, time_limit_seconds, parameters)"
        f" VALUES ('{MODEL}', 'Stepwise', 'For tests.', 'nothing-to-3d', '1', 'MIT', 'stepwise',"
        f" 'cpu', 'none', 'model_3d', 3, 120, '{json.dumps(PARAMETERS)}')",
        database=stack.postgres.database,
    )
    return MODEL


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.api_url, stack.admin_api_key) as client:
        yield client
