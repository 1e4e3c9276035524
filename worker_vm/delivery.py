"""Delivering a finished run: files, events and the report with its log, until the app has them."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx

from contract.attempts import (
    SHORT_LOG,
    AttemptCancelled,
    AttemptFailed,
    AttemptHeartbeat,
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
from worker_vm.event_outbox import EventOutbox
from worker_vm.logs import RunLog, get_logger
from worker_vm.pipelines.base import PipelineError
from worker_vm.uploads import FileUploader, Upload, UploadQueue
from worker_vm.verdicts import Verdicts

log = get_logger(__name__)

Reply = TypeVar("Reply")

LOST = "lost"
UNDELIVERED = "undelivered"
LOG_NAME = "run.log"

_REFUSALS = 3
_EVENTS_SECONDS = 30.0
_LARGE_REPORT = 128 * 1024
"""Bytes. Whatever makes a report larger than this is its log, which is uploaded then."""


@dataclass(frozen=True)
class Patience:
    """How long each kind of call is tried again."""

    claim: RetryPolicy = field(default=RetryPolicy(give_up_after=300))
    download: RetryPolicy = field(default=RetryPolicy(give_up_after=180))
    # Work that is done is kept until the app says that it has it, or does not want it.
    upload: RetryPolicy = field(default=RetryPolicy(longest_wait=5, give_up_after=86400))
    finish: RetryPolicy = field(default=RetryPolicy(longest_wait=5, give_up_after=86400))
    log_upload: RetryPolicy = field(default=RetryPolicy(give_up_after=15))
    # All files of a cancelled run together: somebody waits for its end, and nobody for them.
    cancelled: RetryPolicy = field(default=RetryPolicy(give_up_after=30))


class Delivery:
    """Brings one run's outcome to the app.

    Args:
        api: the attempt's calls.
        storage: a client that doesn't carry the worker key.
        folder: the run's private folder, with its log.
        control: says when to give up.
        uploads: takes the run's files, from its start on.
        events: what the run has seen and the heartbeats have not brought yet.
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
        events: EventOutbox,
        verdicts: Verdicts,
        lines: RunLog,
        patience: Patience,
    ) -> None:
        self._api = api
        self._storage = storage
        self._folder = folder
        self._control = control
        self._uploads = uploads
        self._events = events
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
            if isinstance(report, AttemptCancelled):
                self._keep_files()
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
            ids = self._uploads.drain()
        except Exception as error:  # noqa: BLE001  (a run that has ended is reported)
            return self._without_files(error)
        return report.model_copy(update={"artifact_ids": ids})

    def _keep_files(self) -> None:
        """Have shown what a cancelled run has handed over, if that can be done soon."""
        policy = self._patience.cancelled
        until = time.monotonic() + policy.give_up_after

        def pause(seconds: float) -> bool:
            left = until - time.monotonic()
            return left <= 0 or self._pause(min(seconds, left))

        self._uploads.keep_rest(FileUploader(self._api, self._storage, policy=policy, pause=pause))

    def _without_files(self, error: Exception) -> FinishRequest:
        """What to report instead of a success whose files could not be handed over."""
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
        if isinstance(failure, PipelineError) and failure.code == FailureCode.STORAGE_UNAVAILABLE:
            log.warning("delivery.gave_up", reason=failure.message)
        return self._verdicts.of_error(failure)

    def _tell_events(self) -> None:
        """Bring the rest of the events; whether they are wanted or not, the report follows."""
        while batch := self._events.next_batch():
            try:
                self._retry(partial(self._tell, AttemptHeartbeat(events=batch)), "events.retry")
            except WorkerKeyRefusedError:
                raise
            except ApiRefusedError as error:
                log.warning("events.refused", events=len(batch), reason=str(error))
            self._events.done_with(batch)

    def _tell(self, message: AttemptHeartbeat) -> None:
        self._api.heartbeat(message, _EVENTS_SECONDS)

    def _report(self, report: FinishRequest) -> str:
        self._tell_events()
        if not isinstance(report, AttemptReleased) or self._control.reason is not None:
            report = self._with_log(report)
        for _ in range(_REFUSALS):
            try:
                self._finish(report)
            except (AttemptLostError, WorkerKeyRefusedError):
                raise
            except ApiRefusedError as error:
                log.warning("finish.refused", reason=str(error))
                report = self._after_refusal(report, error)
            else:
                return report.outcome
        self._finish(report)
        return report.outcome

    def _after_refusal(self, report: FinishRequest, error: ApiRefusedError) -> FinishRequest:
        """What to report instead: whatever was wrong, that the run has ended must arrive."""
        if not isinstance(report, AttemptSucceeded):
            return _bare(report)
        if self._uploads.awaits_report:
            return self._with_committed_files(report)
        failed = self._verdicts.failed(
            FailureCode.INVALID_OUTPUT,
            f"The result was refused: {error.detail}",
            permanent=False,
        )
        return failed.model_copy(update={"log": report.log})

    def _with_committed_files(self, report: AttemptSucceeded) -> FinishRequest:
        """A file may have been damaged on its way: one by one each is tried several times."""
        try:
            ids = self._uploads.commit_rest(self._uploader(self._patience.upload))
        except (AttemptLostError, WorkerKeyRefusedError):
            raise
        except Exception as error:  # noqa: BLE001  (a run that has ended is reported)
            return self._without_files(error).model_copy(update={"log": report.log})
        return report.model_copy(update={"artifact_ids": ids})

    def _finish(self, report: FinishRequest) -> None:
        """Deliver the report; the body stays the same, so that a repeat is recognised."""
        reply = self._retry(lambda: self._api.finish(report), "finish.retry")
        log.info("finish.reported", outcome=report.outcome, job_status=reply.job_status)

    def _retry(self, call: Callable[[], Reply], name: str) -> Reply:
        """Call until the API answers, which may take as long as a report may wait."""
        return retry(
            call,
            policy=self._patience.finish,
            retryable=is_passing,
            pause=self._pause,
            on_failure=lambda error, wait: log.warning(
                name, reason=str(error), wait_seconds=round(wait, 1)
            ),
        )

    def _with_log(self, report: FinishRequest) -> FinishRequest:
        """The report with the run's log; a long one is uploaded, if that can be done soon."""
        try:
            self._lines.flush()
            text = self._lines.path.read_text(encoding="utf-8", errors="replace")
            with_log = report.model_copy(update={"log": text or None})
            if len(text) <= SHORT_LOG and len(with_log.model_dump_json().encode()) <= _LARGE_REPORT:
                return with_log
            self._upload_log()
        except Exception as error:  # noqa: BLE001  (the outcome matters more than its log)
            log.warning("log.not_uploaded", reason=str(error))
        return report

    def _upload_log(self) -> None:
        # A copy, since this very upload writes lines too.
        folder = self._folder / "log"
        folder.mkdir(exist_ok=True)
        path = Path(shutil.copyfile(self._lines.path, folder / LOG_NAME))
        uploader = self._uploader(self._patience.log_upload)
        uploader.upload(Upload(ArtifactKind.LOG, path, "text/plain"))

    def _uploader(self, policy: RetryPolicy) -> FileUploader:
        """One that goes on although the run has ended."""
        return FileUploader(self._api, self._storage, policy=policy, pause=self._pause)

    def _pause(self, seconds: float) -> bool:
        """Wait between tries; whether to stop trying. A cancelled job's report is still wanted."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._control.abandoned:
                return True
            time.sleep(min(left, 0.1))
        return False


def _bare(report: FinishRequest) -> FinishRequest:
    """A report with nothing in it that it could do without."""
    changes: dict[str, object] = {"log": None}
    if isinstance(report, AttemptFailed):
        changes["log_tail"] = ""
    return report.model_copy(update=changes)


class _InterruptedError(Exception):
    """The worker has to stop before everything is delivered."""

    def __init__(self) -> None:
        super().__init__("the worker has to stop; what is left is delivered at its next start")
