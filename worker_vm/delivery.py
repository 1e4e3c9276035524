"""Delivering a finished run: its files, its log and the report, until the app has them."""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from contract.artifacts import ArtifactRecord
from contract.attempts import (
    AttemptReleased,
    AttemptSucceeded,
    FailureCode,
    FinishRequest,
)
from contract.kinds import ArtifactKind
from worker_vm.api_client import (
    ApiRefusedError,
    ApiUnavailableError,
    AttemptApi,
    AttemptLostError,
    WorkerKeyRefusedError,
    is_passing,
)
from worker_vm.backoff import RetryPolicy, retry
from worker_vm.control import RunControl, StopReason
from worker_vm.logs import RunLog, get_logger
from worker_vm.pipelines.base import PipelineError
from worker_vm.uploads import FileUploader, Upload, UploadQueue
from worker_vm.verdicts import Verdicts

log = get_logger(__name__)

LOST = "lost"
UNDELIVERED = "undelivered"
LOG_NAME = "run.log"


@dataclass(frozen=True)
class Patience:
    """How long each kind of call is tried again."""

    claim: RetryPolicy = field(default=RetryPolicy(give_up_after=300))
    download: RetryPolicy = field(default=RetryPolicy(give_up_after=180))
    # Work that is done is kept until the app says that it has it, or does not want it.
    upload: RetryPolicy = field(default=RetryPolicy(longest_wait=5, give_up_after=86400))
    finish: RetryPolicy = field(default=RetryPolicy(longest_wait=5, give_up_after=86400))
    log_upload: RetryPolicy = field(default=RetryPolicy(give_up_after=15))


class Delivery:
    """Brings one run's outcome to the app.

    Args:
        api: the attempt's calls.
        storage: a client that doesn't carry the worker key.
        folder: the run's private folder, with its log.
        control: says when to give up.
        uploads: takes the run's files, from its start on.
        verdicts: judges what goes wrong here.
        lines: the run's log.
        patience: how long to try.
    """

    def __init__(
        self,
        api: AttemptApi,
        storage: httpx.Client,
        folder: Path,
        *,
        control: RunControl,
        uploads: UploadQueue,
        verdicts: Verdicts,
        lines: RunLog,
        patience: Patience,
    ) -> None:
        self._api = api
        self._storage = storage
        self._folder = folder
        self._control = control
        self._uploads = uploads
        self._verdicts = verdicts
        self._lines = lines
        self._patience = patience

    def deliver(self, report: FinishRequest) -> str:
        """Upload what is left and report.

        Returns:
            The outcome in a word: that of the report, `lost` if nobody wants it any more, or
            `undelivered` if it was interrupted and must stay on disk.
        """
        try:
            if isinstance(report, AttemptSucceeded):
                report = self._with_files(report)
            self._uploads.discard()
            return self._report(report)
        except AttemptLostError as error:
            log.warning("attempt.lost", reason=str(error))
            return LOST
        except (ApiUnavailableError, WorkerKeyRefusedError, _InterruptedError) as error:
            log.warning("delivery.interrupted", reason=str(error))
            return UNDELIVERED

    def _with_files(self, report: AttemptSucceeded) -> FinishRequest:
        """The report with everything uploaded, or the failure that came in its way."""
        try:
            records = self._uploads.drain()
        except Exception as error:
            # Whatever it was: a run that has ended is reported.
            reason = self._control.reason
            if reason is StopReason.SHUTDOWN:
                raise _InterruptedError from error
            if reason is StopReason.LOST:
                raise AttemptLostError(409, "ATTEMPT_SUPERSEDED", "told meanwhile") from error
            if reason is not None and reason is not StopReason.UPLOAD_FAILED:
                stopped = self._verdicts.of_stop(reason)
                if stopped is not None:
                    return stopped
            failure = self._uploads.failure or error
            if isinstance(failure, PipelineError) and failure.code == (
                FailureCode.STORAGE_UNAVAILABLE
            ):
                log.warning("delivery.gave_up", reason=failure.message)
            return self._verdicts.of_error(failure)
        ids = [record.artifact_id for record in records]
        return report.model_copy(update={"artifact_ids": ids})

    def _report(self, report: FinishRequest) -> str:
        record = None
        stopped = self._control.reason is not None
        if not isinstance(report, AttemptReleased) or stopped:
            record = self._upload_log()
        if isinstance(report, AttemptSucceeded) and record is not None:
            ids = [*report.artifact_ids, record.artifact_id]
            report = report.model_copy(update={"artifact_ids": ids})
        try:
            self._finish(report)
        except AttemptLostError:
            raise
        except ApiRefusedError as error:
            if isinstance(error, WorkerKeyRefusedError) or not isinstance(report, AttemptSucceeded):
                raise
            log.warning("finish.refused", reason=str(error))
            report = self._verdicts.failed(
                FailureCode.INVALID_OUTPUT,
                f"The result was refused: {error.detail}",
                permanent=False,
            )
            self._finish(report)
        return report.outcome

    def _finish(self, report: FinishRequest) -> None:
        """Deliver the report; the body stays the same, so that a repeat is recognised."""
        reply = retry(
            lambda: self._api.finish(report),
            policy=self._patience.finish,
            retryable=is_passing,
            pause=self._pause,
            on_failure=lambda error, wait: log.warning(
                "finish.retry", reason=str(error), wait_seconds=round(wait, 1)
            ),
        )
        log.info("finish.reported", outcome=report.outcome, job_status=reply.job_status)

    def _upload_log(self) -> ArtifactRecord | None:
        """Hand over the run's log, if it can be done soon."""
        uploader = FileUploader(
            self._api, self._storage, policy=self._patience.log_upload, pause=self._pause
        )
        try:
            self._lines.flush()
            if self._lines.path.stat().st_size == 0:
                return None
            # A copy, since this very upload writes lines too.
            folder = self._folder / "log"
            folder.mkdir(exist_ok=True)
            path = Path(shutil.copyfile(self._lines.path, folder / LOG_NAME))
            return uploader.upload(Upload(ArtifactKind.LOG, path, "text/plain"))
        except Exception as error:  # noqa: BLE001  (the outcome matters more than its log)
            log.warning("log.not_uploaded", reason=str(error))
            return None

    def _pause(self, seconds: float) -> bool:
        """Wait between tries; whether to stop trying. A cancelled job's report is still wanted."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._control.abandoned:
                return True
            time.sleep(min(left, 0.1))
        return False


class _InterruptedError(Exception):
    """The worker has to stop before everything is delivered."""

    def __init__(self) -> None:
        super().__init__("the worker has to stop; what is left is delivered at its next start")
