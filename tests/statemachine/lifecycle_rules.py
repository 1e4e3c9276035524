"""The rules: whatever users, workers and the platform's duties may do, in any order."""

from typing import Any, ClassVar
from uuid import UUID, uuid4

import lifecycle_model as model
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from lifecycle_model import Attempt, Job
from lifecycle_world import Row, World

from app.jobs.lifecycle import FINAL_JOB_STATUSES, JOB_TRANSITIONS, JobStatus
from contract.attempts import JobSpec
from tests.support.jobs import end_lease, make_due, set_job
from tests.support.people import JOBS

FAILED = {"outcome": "failed", "code": "OOPS", "message": "it broke", "permanent": False}
REPORTS: dict[str, dict[str, Any]] = {
    "failed": FAILED,
    "failed for good": {**FAILED, "permanent": True},
    "cancelled": {"outcome": "cancelled"},
    "released": {"outcome": "released", "reason": "no time"},
    "succeeded": {"outcome": "succeeded", "metrics": {}},
    "succeeded with nothing": {"outcome": "succeeded", "metrics": {}},
}


ENDED = {"SUCCEEDED", "FAILED", "CANCELLED"}
MOST_JOBS = 4
"""More would be tried less each."""


class Lifecycle(RuleBasedStateMachine):
    """Drives the real service and its model side by side; after each step they must agree."""

    world: ClassVar[World]
    seen: ClassVar[set[tuple[JobStatus, JobStatus]]]
    steps: ClassVar[int] = 0

    jobs = Bundle("jobs")
    attempts = Bundle("attempts")
    claimed = Bundle("claimed")

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[UUID, Job] = {}

    @initialize()
    def clear(self) -> None:
        """Each run begins without jobs."""
        self.world.do(self.world.clear())

    # What users do.

    @precondition(lambda self: len(self.known) < MOST_JOBS)
    @rule(target=jobs, owner=st.integers(0, 1))
    def create(self, owner: int) -> Job:
        """A user asks for a model."""
        person = self.world.people[owner]
        body = {"model_id": "dreamfusion-sd", "prompt": "a teapot", "input_params": {}}
        created = self.world.do(person.job(**body))
        job = Job(UUID(created["id"]), owner)
        self.known[job.id] = job
        return job

    @rule(job=jobs)
    def cancel(self, job: Job) -> None:
        """A job that has not ended is cancelled, any other refused."""
        answer = self._ask(job, "POST", "/cancel")
        assert answer == (200 if job.cancel() else 409)

    @rule(job=jobs)
    def retry(self, job: Job) -> None:
        """A job that failed or was cancelled is queued again, any other refused."""
        answer = self._ask(job, "POST", "/retry")
        assert answer == (200 if job.retry() else 409)

    @rule(job=jobs)
    def look(self, job: Job) -> None:
        """The user sees what the model foretells."""
        seen = self.world.do(self.world.people[job.owner].get(job.id))
        assert seen["status"] == job.status
        assert seen["cancel_requested"] == job.cancel_requested
        assert (job.status == "FAILED") <= (seen["error"] is not None)
        assert (seen["queue_position"] is not None) == (job.status == "QUEUED")

    def _ask(self, job: Job, method: str, path: str) -> int:
        client = self.world.people[job.owner].client
        return self.world.do(client.request(method, f"{JOBS}/{job.id}{path}")).status_code

    # What the platform does by itself.

    @rule(target=attempts)
    def dispatch(self) -> MultipleResults[Attempt]:
        """Who is due gets what the limit leaves, oldest first, and nobody else."""
        expected: list[Job] = []
        for owner, limit in enumerate(self.world.max_active):
            mine = [job for job in self.known.values() if job.owner == owner]
            active = sum(job.live is not None for job in mine)
            waits = [job for job in mine if job.status == "QUEUED" and not job.live and job.due]
            expected += waits[: limit - active]
        self.world.do(self.world.dispatcher.run_once())
        rows = self.world.do(self.world.rows())
        new = []
        for job in self.known.values():
            old = {str(attempt.id) for attempt in job.attempts}
            for attempt_id in rows[job.id].attempts.keys() - old:
                assert job in expected, "it was not its turn"
                expected.remove(job)
                new.append(job.dispatch(UUID(attempt_id)))
        assert not expected, "it was due and there was room"
        return multiple(*new)

    @rule(job=jobs)
    def wait_for_retry(self, job: Job) -> None:
        """The wait before the next attempt is over."""
        # Only for those that wait: it wakes the user, and hides it if nothing else did.
        if job.status == "QUEUED" and not job.live and not job.due:
            self.world.do(make_due(self.world.database, job.id))
            job.due = True

    @rule(job=jobs)
    def hand_back_often(self, job: Job) -> None:
        """It has been handed back as often as it may be, but for one time."""
        job.releases = model.MAX_RELEASES - 2
        self.world.do(set_job(self.world.database, job.id, releases=job.releases))

    @rule(attempt=claimed)
    def let_lease_end(self, attempt: Attempt) -> None:
        """The worker is silent for longer than its lease."""
        if attempt.status == "RUNNING":
            attempt.lease_over = True
            self.world.do(end_lease(self.world.database, attempt.id))

    @rule()
    def rescue(self) -> None:
        """Attempts whose lease is over are lost, and no others."""
        lost = [job.live for job in self.known.values() if job.live and job.live.lease_over]
        assert self.world.do(self.world.rescue()) == len(lost)
        for attempt in lost:
            attempt.status = "LOST"
            attempt.job.events.append("attempt.lost")
            attempt.job.fail(permanent=False)
            self._hold(attempt.job)

    @rule(attempt=attempts)
    def withdraw(self, attempt: Attempt) -> None:
        """An attempt that nobody has claimed is taken back."""
        unclaimed = attempt.status == "DISPATCHED"
        assert self.world.do(self.world.withdraw(attempt.id)) == unclaimed
        if unclaimed:
            attempt.status = "RELEASED"
            attempt.job.events.append("attempt.withdrawn")

    @precondition(lambda self: self.ended)
    @rule(pick=st.integers(0, MOST_JOBS - 1))
    def expire(self, pick: int) -> None:
        """The retention of a job that has ended is over."""
        job = self.ended[pick % len(self.ended)]
        assert self.world.do(self.world.expire(job.id)) == 1
        job.move("EXPIRED", "job.expired")

    @property
    def ended(self) -> list[Job]:
        """Jobs that may expire."""
        return [job for job in self.known.values() if job.status in ENDED]

    def _hold(self, job: Job) -> None:
        if not job.due:
            self.world.do(self.world.hold(job.id))

    # What workers do.

    @rule(target=claimed, attempt=attempts)
    def claim(self, attempt: Attempt) -> MultipleResults[Attempt]:
        """A worker claims an attempt; only the first is granted."""
        first = attempt.claim_id is None
        self._claim(attempt, uuid4())
        return multiple(attempt) if first and attempt.spec else multiple()

    @rule(target=claimed, job=jobs)
    def run(self, job: Job) -> MultipleResults[Attempt]:
        """The usual way, in one step, so that the rest of the steps lead further."""
        self.wait_for_retry(job)
        self.dispatch()
        attempt = job.live
        return self.claim(attempt) if attempt else multiple()

    @rule(attempt=claimed)
    def claim_again(self, attempt: Attempt) -> None:
        """The same claim again answers the same, as long as it runs."""
        assert attempt.claim_id is not None
        self._claim(attempt, attempt.claim_id)

    def _claim(self, attempt: Attempt, claim_id: UUID) -> None:
        answer = self.world.do(self.world.worker.claim(attempt.id, claim_id))
        assert answer.status_code == model.claim(attempt, claim_id)
        if answer.status_code != 200:
            return
        spec = JobSpec.model_validate(answer.json())
        assert (spec.job_id, spec.attempt) == (attempt.job.id, attempt.job.failures + 1)
        assert attempt.spec is None or attempt.spec.attempt_token == spec.attempt_token
        attempt.spec = spec

    @rule(attempt=claimed)
    def heartbeat(self, attempt: Attempt) -> None:
        """A worker that still has its attempt goes on, any other learns that it has not."""
        assert attempt.spec is not None
        answer = self.world.do(self.world.worker.call(attempt.spec, "heartbeat", {}))
        if attempt.status != "RUNNING":
            assert answer.status_code == attempt.refusal()
            return
        assert answer.status_code == 200
        assert answer.json()["cancel_requested"] == attempt.job.cancel_requested
        attempt.lease_over = False

    @rule(attempt=claimed, what=st.sampled_from(["heartbeat", "finish"]))
    def pretend(self, attempt: Attempt, what: str) -> None:
        """Without the token of the claim nobody speaks for an attempt."""
        assert attempt.spec is not None
        rival = attempt.spec.model_copy(update={"attempt_token": model.wrong_token()})
        body = FAILED if what == "finish" else {}
        assert self.world.do(self.world.worker.call(rival, what, body)).status_code == 403

    @rule(attempt=claimed)
    def upload(self, attempt: Attempt) -> None:
        """A worker that still has its attempt adds a file to it."""
        assert attempt.spec is not None
        if attempt.status == "RUNNING":
            made = self.world.do(self.world.worker.upload(attempt.spec))
            if not attempt.artifacts:  # the same file again is the same artifact
                attempt.job.events.append("artifact.added")
            attempt.artifacts = [made]
        else:
            answer = self.world.do(self.world.worker.ticket(attempt.spec))
            assert answer.status_code == attempt.refusal()

    @rule(attempt=claimed, report=st.sampled_from(sorted(REPORTS)))
    def finish(self, attempt: Attempt, report: str) -> None:
        """A worker reports an end, of an attempt that it has or had."""
        body = dict(REPORTS[report])
        if report == "succeeded" and attempt.status == "RUNNING":
            self.upload(attempt)
        if body["outcome"] == "succeeded":
            body["artifact_ids"] = attempt.artifacts
        self._report(attempt, body)

    @rule(target=claimed, job=jobs, report=st.sampled_from(sorted(REPORTS)))
    def run_to_end(self, job: Job, report: str) -> MultipleResults[Attempt]:
        """Run it, and report an end at once."""
        begun = self.run(job)
        if job.live and job.live.spec:
            self.finish(job.live, report)
        return begun

    @rule(target=claimed, attempt=claimed, report=st.sampled_from(sorted(REPORTS)))
    def come_back_too_late(self, attempt: Attempt, report: str) -> MultipleResults[Attempt]:
        """A worker that was given up reports while its job runs elsewhere."""
        self.let_lease_end(attempt)
        self.rescue()
        begun = self.run(attempt.job)
        self.finish(attempt, report)
        return begun

    @rule(attempt=claimed)
    def finish_again(self, attempt: Attempt) -> None:
        """The same report again changes nothing."""
        if attempt.report is not None:
            self._report(attempt, attempt.report)

    def _report(self, attempt: Attempt, body: dict[str, Any]) -> None:
        assert attempt.spec is not None
        replayed = attempt.report == body
        answer = self.world.do(self.world.worker.call(attempt.spec, "finish", body))
        assert answer.status_code == model.finish(attempt, body)
        if answer.status_code == 200:
            reply = answer.json()
            assert (reply["job_status"], reply["replayed"]) == (attempt.job.status, replayed)
            if not replayed:
                self._hold(attempt.job)

    # What is true after each step.

    @invariant()
    def agrees(self) -> None:
        """The service is as the model has it, and sound by itself."""
        type(self).steps += 1
        if not self.known:
            return
        rows = self.world.do(self.world.rows())
        assert rows.keys() == self.known.keys()
        for job_id, row in rows.items():
            self._same(self.known[job_id], row)
            self._sound(row)
        for person, limit in zip(self.world.people, self.world.max_active, strict=True):
            slots = [row.slot for row in rows.values() if row.user_id == person.id and row.slot]
            assert len(slots) == len(set(slots)) <= limit

    def _same(self, job: Job, row: Row) -> None:
        assert row.status == job.status
        assert (row.slot is not None) == (job.live is not None)
        assert (row.failures, row.releases) == (job.failures, job.releases)
        assert row.cancel_requested == job.cancel_requested
        assert row.attempts == {str(attempt.id): attempt.status for attempt in job.attempts}
        assert [event for event, _ in row.events] == job.events

    def _sound(self, row: Row) -> None:
        """What must hold whatever the model says."""
        assert sum(status in model.LIVE for status in row.attempts.values()) <= 1
        if JobStatus(row.status) in FINAL_JOB_STATUSES:
            assert row.slot is None
        here = JobStatus.QUEUED
        for _, status in row.events:
            if status is not None:
                there = JobStatus(status)
                assert there in JOB_TRANSITIONS[here], f"{here} does not lead to {there}"
                self.seen.add((here, there))
                here = there
        assert here == row.status
