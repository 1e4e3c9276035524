"""Processes killed between two steps, at a moment that a proxy holds open."""

import contextlib
import threading
from typing import Any
from uuid import uuid4

import httpx

from tests.faults.cluster import MODEL
from tests.faults.proxy import Mode
from tests.faults.site import Site, wait_until


class Asker:
    """A client in a thread of its own, which asks for a job once and may hear nothing."""

    def __init__(self, site: Site, seconds: float) -> None:
        self.key = str(uuid4())
        self._site = site
        self._body = {"model_id": MODEL, "input_params": {"seconds": seconds}}
        self._thread = threading.Thread(target=self._ask_in_vain)
        self._thread.start()

    @property
    def created(self) -> list[str]:
        """Jobs that its key has made."""
        key = f"SELECT id FROM jobs WHERE idempotency_key = '{self.key}'"  # noqa: S608
        return [row["id"] for row in self._site.cluster.query(key)]

    def ask(self) -> httpx.Response:
        """Ask; again and again if need be."""
        headers = {"x-api-key": self._site.account.key, "Idempotency-Key": self.key}
        url = f"{self._site.cluster.api_url}/api/v1/jobs/"
        return httpx.post(url, json=self._body, headers=headers, timeout=60, trust_env=False)

    def hear_nothing(self) -> None:
        """Wait for the end of the first call, which had no answer."""
        self._thread.join()
        assert self.answer is None

    def _ask_in_vain(self) -> None:
        self.answer: Any = None
        with contextlib.suppress(httpx.TransportError):
            self.answer = self.ask()


def _kill_and_restart(site: Site, name: str) -> None:
    site.process(name).kill()
    site.cluster.heal()
    site.process(name).start()


def test_api_killed_before_the_commit(site: Site) -> None:
    """No job was made; the client, who heard nothing, asks again and gets one."""
    site.way("database").break_requests(Mode.BLACK_HOLE, b"0.0123")
    asker = Asker(site, 0.0123)
    wait_until(site.way("database").hurt.is_set)
    _kill_and_restart(site, "api")
    asker.hear_nothing()
    assert asker.created == []
    answers = [asker.ask() for _ in range(2)]

    assert {answer.json()["id"] for answer in answers} == set(asker.created)
    assert len(asker.created) == 1
    site.succeeds_once(asker.created[0])


def test_api_killed_after_the_commit(site: Site) -> None:
    """The job was made; the client, who heard nothing, asks again and is told of the same one."""
    site.way("api").break_requests(Mode.HOLD_ANSWER, b"POST /api/v1/jobs/")
    asker = Asker(site, 0.0456)
    wait_until(lambda: asker.created)
    _kill_and_restart(site, "api")
    asker.hear_nothing()
    (made,) = asker.created
    again = asker.ask()

    assert (again.json()["id"], again.headers["Idempotency-Replayed"]) == (made, "true")
    assert asker.created == [made]
    site.succeeds_once(made)


def test_dispatcher_killed_between_commit_and_push(site: Site) -> None:
    """The attempt that it had admitted is pushed by the next dispatcher, and by no other way."""
    site.way("redis").break_requests(Mode.BLACK_HOLE, b"RPUSH")
    job_id = site.create()
    wait_until(site.way("redis").hurt.is_set)
    site.process("dispatcher").kill()
    assert site.attempts(job_id) == ["DISPATCHED"]
    site.cluster.heal()
    site.process("dispatcher").start()

    site.succeeds_once(job_id)


def test_dispatcher_killed_after_the_push(site: Site) -> None:
    """What it had pushed, and did not hear of, runs once; the next dispatcher finds it done."""
    site.way("redis").break_requests(Mode.HOLD_ANSWER, b"RPUSH")
    job_id = site.create()
    wait_until(lambda: site.attempts(job_id) == ["SUCCEEDED"])
    _kill_and_restart(site, "dispatcher")
    later = site.create()

    site.succeeds_once(later)
    site.succeeds_once(job_id)
