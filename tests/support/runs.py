"""Jobs brought to the state that a test is about."""

from dataclasses import dataclass
from typing import Any

from app.db.session import Database
from app.queueing.dispatcher import Dispatcher
from contract.attempts import JobSpec
from tests.support.jobs import dispatch
from tests.support.people import Person
from tests.support.worker import FakeWorker


@dataclass
class Stage:
    """A worker, a dispatcher and a database to run jobs with."""

    worker: FakeWorker
    dispatcher: Dispatcher
    database: Database

    async def start(self, job: dict[str, Any]) -> JobSpec:
        """Dispatch and claim a job."""
        await self.worker.report()
        return await self.worker.start(await dispatch(self.database, self.dispatcher, job["id"]))

    async def running(self, person: Person, **body: Any) -> tuple[dict[str, Any], JobSpec]:
        """A new job that is running."""
        job = await person.job(**body)
        return job, await self.start(job)

    async def succeeded(self, person: Person) -> dict[str, Any]:
        """A new job that has succeeded."""
        job, spec = await self.running(person)
        assert (await self.worker.succeed(spec)).status_code == 200
        return await person.get(job["id"])

    async def failed(self, person: Person) -> dict[str, Any]:
        """A new job that has failed for good."""
        job, spec = await self.running(person)
        assert (await self.worker.fail(spec, permanent=True)).status_code == 200
        return await person.get(job["id"])
