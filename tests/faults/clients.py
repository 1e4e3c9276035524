"""Clients that create and cancel jobs, and write down what they were told."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from tests.faults.cluster import MODEL, Account

JOBS = "/api/v1/jobs"
CALL_SECONDS = 5.0
RETRY_SECONDS = 0.3
REPEATS, CANCELS, LONG_RUNS = 0.2, 0.25, 0.1


@dataclass
class Told:
    """What the API has answered about one job."""

    account: Account
    key: str
    params: dict[str, Any]
    ids: set[str] = field(default_factory=set)
    cancel: tuple[int, str] | None = None
    """Status code of the answer to a cancellation, and the job's status in it."""


class Ledger:
    """Everything that clients were told; written by many threads."""

    def __init__(self) -> None:
        self.jobs: list[Told] = []
        self.answers: Counter[str] = Counter()
        self.server_errors: list[str] = []
        self._lock = threading.Lock()

    def open(self, told: Told) -> None:
        """Begin a job's page before it is asked for."""
        with self._lock:
            self.jobs.append(told)

    def count(self, what: str) -> None:
        """Count one answer, or the lack of one."""
        with self._lock:
            self.answers[what] += 1


class Caller:
    """One thread's connection to the API, which is asked again until it answers."""

    def __init__(
        self, api_url: str, account: Account, ledger: Ledger, give_up: threading.Event
    ) -> None:
        self._account = account
        self._ledger = ledger
        self._give_up = give_up
        self._http = httpx.Client(
            base_url=api_url,
            headers={"x-api-key": account.key},
            timeout=CALL_SECONDS,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(self, path: str, **options: Any) -> httpx.Response | None:
        """POST until there is an answer that is final; None if the test gives up first."""
        while not self._give_up.is_set():
            try:
                answer = self._http.post(f"{JOBS}{path}", **options)
            except httpx.TransportError as error:
                self._ledger.count(type(error).__name__)
            else:
                self._ledger.count(str(answer.status_code))
                if answer.status_code == 500:
                    self._ledger.server_errors.append(answer.text)
                in_flight = answer.status_code == 409 and "IN_FLIGHT" in answer.text
                if answer.status_code < 500 and not in_flight:
                    return answer
            time.sleep(RETRY_SECONDS)
        return None

    def create(self, told: Told) -> bool:
        """Ask for a job; whether it was acknowledged."""
        answer = self.call(
            "/",
            json={"model_id": MODEL, "input_params": told.params},
            headers={"Idempotency-Key": told.key},
        )
        if answer is None:
            return False
        assert answer.status_code == 201, answer.text
        told.ids.add(answer.json()["id"])
        return True

    def cancel(self, told: Told) -> None:
        """Cancel the job, and write down the answer."""
        answer = self.call(f"/{next(iter(told.ids))}/cancel")
        if answer is not None:
            assert answer.status_code in {200, 409}, answer.text
            status = answer.json()["status"] if answer.status_code == 200 else ""
            told.cancel = (answer.status_code, status)


class Clients:
    """Threads that keep the platform busy until told to stop.

    Args:
        api_url: where the API is.
        accounts: the users; each gets a thread.
        seed: of what they do.
        busy: whether enough is waiting already.
    """

    def __init__(
        self, api_url: str, accounts: list[Account], seed: int, busy: Callable[[], bool]
    ) -> None:
        self.ledger = Ledger()
        self.errors: list[BaseException] = []
        self._busy = busy
        self._stopping = threading.Event()
        self._give_up = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=(api_url, account, random.Random(f"{seed}/{number}"))
            )
            for number, account in enumerate(accounts)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def finish(self, seconds: float) -> None:
        """Let every client bring its last job to an answer, for so long at most."""
        self._stopping.set()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._give_up.set()
        for thread in self._threads:
            thread.join()

    def _run(self, api_url: str, account: Account, dice: random.Random) -> None:
        caller = Caller(api_url, account, self.ledger, self._give_up)
        try:
            while not self._stopping.wait(dice.uniform(0.05, 0.5)):
                if not self._busy():
                    self._one_job(caller, account, dice)
        except BaseException as error:  # noqa: BLE001  (the test raises it in its own thread)
            self.errors.append(error)
        finally:
            caller.close()

    def _one_job(self, caller: Caller, account: Account, dice: random.Random) -> None:
        seconds = dice.uniform(3, 7) if dice.random() < LONG_RUNS else dice.uniform(0, 1)
        told = Told(account, str(uuid4()), {"seconds": round(seconds, 2)})
        self.ledger.open(told)
        if caller.create(told) and dice.random() < REPEATS:
            caller.create(told)
        if told.ids and dice.random() < CANCELS:
            self._stopping.wait(dice.uniform(0, 3))
            caller.cancel(told)
