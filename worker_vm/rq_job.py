"""The RQ job as this worker accepts it: one allowed function, one id, nothing else."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from rq.exceptions import NoSuchJobError
from rq.job import Job

from contract.tasks import RUN_ATTEMPT
from worker_vm.logs import get_logger
from worker_vm.tasks import run_attempt

log = get_logger(__name__)

DEFAULT_TIMEOUT_SECONDS = 3600


class ForbiddenTaskError(Exception):
    """A task asks for something other than running one attempt."""


class AttemptJob(Job):
    """A job that can only run an attempt.

    Stock RQ imports and calls whatever name a job holds, so whoever can write to Redis could run
    any code here. This one compares the name before anything is imported, and drops the other
    ways a job could name code or addresses: callbacks, webhooks, retries and repeats.
    """

    def restore(self, raw_data: Any) -> Any:
        """Read a job from Redis.

        Raises:
            NoSuchJobError: there is none, or it can't be read. A worker passes over it; any other
                error would end the worker.
        """
        try:
            super().restore(raw_data)
        except NoSuchJobError:
            raise
        except Exception as error:
            log.warning("task.unreadable", rq_job_id=self.id, reason=type(error).__name__)
            raise NoSuchJobError(f"Job {self.id} cannot be read.") from error
        self._success_callback_name = None
        self._failure_callback_name = None
        self._stopped_callback_name = None
        self.webhooks = []
        self.retries_left = None
        self.repeats_left = None
        self.timeout = self.timeout or DEFAULT_TIMEOUT_SECONDS

    def perform(self) -> str:
        """Run the attempt; RQ's own first writes what `ThriftyWorker` has written already."""
        self._result = self.func(*self.args)
        return self._result

    @property
    def func(self) -> Callable[[str], str]:
        """The allowed function.

        Raises:
            ForbiddenTaskError: the task is anything else.
        """
        if self.func_name != RUN_ATTEMPT or self.instance is not None:
            raise ForbiddenTaskError(
                f"This worker runs {RUN_ATTEMPT} and nothing else; refused {self.func_name!r}."
            )
        if self.kwargs or len(self.args) != 1 or not _is_uuid(self.args[0]):
            raise ForbiddenTaskError(f"{RUN_ATTEMPT} takes exactly one argument, an attempt's id.")
        return run_attempt


def _is_uuid(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False
