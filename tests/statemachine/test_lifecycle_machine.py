"""The life cycle under thousands of random steps, against a model of it."""

import asyncio
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from lifecycle_rules import Lifecycle
from lifecycle_world import World

from app.config import Settings
from app.db.session import Database
from app.jobs.lifecycle import JOB_TRANSITIONS
from app.queueing.dispatcher import Dispatcher
from tests.support.people import People
from tests.support.worker import FakeWorker

EXAMPLES = int(os.environ.get("LIFECYCLE_EXAMPLES", "50"))
STEPS = 60
MAX_ACTIVE = (1, 3)
WORKERS = 8
"""Enough for every slot, so that only the users' limits decide who is dispatched."""


@pytest.fixture
async def world(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    settings: Settings,
) -> World:
    """Two users who may have one and three active jobs, and workers for all of them."""
    for number in range(WORKERS):
        await worker.report(queue="gpu", pipelines=("dreamfusion",), name=f"worker-{number}")
    persons = [await people.make(max_active_jobs=limit) for limit in MAX_ACTIVE]
    loop = asyncio.get_running_loop()
    return World(loop, tuple(persons), MAX_ACTIVE, worker, dispatcher, database, settings)


async def test_service_agrees_with_its_model(world: World) -> None:
    """Whatever users, workers and the platform do in whatever order, the model foretells it."""

    class Bound(Lifecycle):
        pass

    Bound.world, Bound.seen = world, set()
    # The same steps each time in CI; elsewhere new ones, and a failure prints how to repeat it.
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize="CI" in os.environ,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    # In a thread of its own: the service needs this one's loop.
    await asyncio.to_thread(run_state_machine_as_test, Bound, settings=chosen)
    assert Bound.steps > 10 * EXAMPLES
    edges = {(source, target) for source in JOB_TRANSITIONS for target in JOB_TRANSITIONS[source]}
    if chosen.derandomize:
        assert edges - Bound.seen == set(), "some transition was never taken"
