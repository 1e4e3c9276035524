"""What the uploads of whole files and of parts share: trying again, and saying what was wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from contract.attempts import FailureCode
from worker_vm.api_client import (
    ApiRefusedError,
    ApiUnavailableError,
    AttemptLostError,
    WorkerKeyRefusedError,
)
from worker_vm.backoff import RetryPolicy, retry
from worker_vm.downloads import StorageUnavailableError
from worker_vm.logs import get_logger
from worker_vm.pipelines.base import PipelineError

log = get_logger(__name__)

T = TypeVar("T")


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Say of a failure which file it concerns, and what it means for the run."""
    try:
        yield
    except (AttemptLostError, WorkerKeyRefusedError):
        raise
    except ApiRefusedError as error:
        raise PipelineError(
            FailureCode.INVALID_OUTPUT,
            f"The result file {name} was refused: {error.detail}",
            permanent=True,
        ) from error
    except (ApiUnavailableError, StorageUnavailableError) as error:
        raise PipelineError(
            FailureCode.STORAGE_UNAVAILABLE,
            f"The result file {name} could not be stored: {error}.",
            permanent=False,
        ) from error


class UploadTries:
    """Tries each step of an upload until it succeeds or is not wanted any more.

    Args:
        policy: how patient to be with each step.
        pause: waits between tries and says whether to stop trying.
    """

    def __init__(self, policy: RetryPolicy, pause: Callable[[float], bool]) -> None:
        self._policy = policy
        self.pause = pause

    def patiently(self, name: str, call: Callable[[], T]) -> T:
        """Do a step of the upload of a file.

        Raises:
            ApiError, StorageUnavailableError: the last failure.
        """
        return retry(
            call,
            policy=self._policy,
            # A refused key says nothing about the file: it is the operator's to put right.
            retryable=lambda e: isinstance(
                e, ApiUnavailableError | StorageUnavailableError | WorkerKeyRefusedError
            ),
            pause=self.pause,
            on_failure=lambda error, wait: log.warning(
                "upload.retry", name=name, reason=str(error), wait_seconds=round(wait, 1)
            ),
        )
