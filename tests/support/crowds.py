"""Many workers, and many jobs of one user."""

from tests.support.people import Person
from tests.support.worker import FakeWorker


async def many_workers(worker: FakeWorker, count: int, queue: str = "cpu") -> None:
    """Let so many workers live."""
    for number in range(count):
        await worker.report(name=f"worker-{number}", queue=queue)


async def many_jobs(person: Person, count: int) -> list[str]:
    """So many jobs of one user, oldest first."""
    image = await person.upload()
    return [(await person.job(input_params={"image_path": image}))["id"] for _ in range(count)]
