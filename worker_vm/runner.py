"""One attempt from claim to report. Knows nothing of RQ; works in any process, many times over."""

import math
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from uuid import UUID, uuid4

import httpx
from structlog.contextvars import bound_contextvars

from contract.artifacts import ArtifactKind, ArtifactRecord
from contract.attempts import (
    AttemptCancelled,
    AttemptFailed,
    AttemptReleased,
    AttemptSucceeded,
    ClaimRequest,
    FailureCode,
    FinishRequest,
    JobSpec,
)
from worker_vm.api_client import (
    ApiClient,
    ApiRefusedError,
    AttemptApi,
    AttemptLostError,
    WorkerKeyRefusedError,
    is_passing,
)
from worker_vm.backoff import RetryPolicy, retry
from worker_vm.control import RunControl, StopReason
from worker_vm.downloads import download_inputs
from worker_vm.http_client import make_client
from worker_vm.logs import RunLog, get_logger, redact, run_log, storable
from worker_vm.pipeline_loader import PipelineCache, PipelineUnavailableError
from worker_vm.pipelines.base import PipelineError, RunInput
from worker_vm.reporter import LOG_NAME, RunReporter
from worker_vm.supervisor import Mailbox, Signal, Supervisor, Timings
from worker_vm.uploads import FileUploader, Upload, UploadQueue
from worker_vm.workspace import private_folder

log = get_logger(__name__)

STORAGE_READ_SECONDS = 120
NOT_RUN = "not run"
LOST = "lost"

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True)
class Patience:
    """How long each kind of call is tried again."""

    claim: RetryPolicy = field(default=RetryPolicy(give_up_after=300))
    download: RetryPolicy = field(default=RetryPolicy(give_up_after=180))
    upload: RetryPolicy = field(default=RetryPolicy(give_up_after=300))
    log_upload: RetryPolicy = field(default=RetryPolicy(give_up_after=15))
    finish: RetryPolicy = field(default=RetryPolicy(give_up_after=600))
    last_words: RetryPolicy = field(default=RetryPolicy(give_up_after=15))


@dataclass
class RunHost:
    """The process that runs attempts, as a run sees it.

    Args:
        worker_name: what the worker registered as.
        open_api: makes an API client; called for each run, so that none survives a fork.
        work_root: where private folders are made.
        exit_process: ends the process; called when a pipeline can't be stopped otherwise.
    """

    worker_name: str
    open_api: Callable[[], ApiClient]
    work_root: Path
    exit_process: Callable[[int], None] = os._exit
    patience: Patience = field(default_factory=Patience)
    timings: Timings = field(default_factory=Timings)
    pipelines: PipelineCache = field(default_factory=PipelineCache)
    mailbox: Mailbox = field(default_factory=SimpleQueue)

    def stop_current(self) -> None:
        """Ask the current run to stop. Safe in a signal handler."""
        self.mailbox.put(Signal.STOP)


def run_attempt(host: RunHost, attempt_id: UUID) -> str:
    """Claim an attempt, run its pipeline, upload what it makes and report.

    Returns:
        The outcome in a word: that of the report, `lost` or `not run`.

    Raises:
        ApiError: the claim or the report could not be delivered.
    """
    host.mailbox = SimpleQueue()
    with bound_contextvars(attempt_id=str(attempt_id)), host.open_api() as api:
        claimed_at = time.monotonic()
        spec = _claim(host, api, attempt_id)
        if spec is None:
            return NOT_RUN
        with (
            bound_contextvars(
                job_id=str(spec.job_id),
                model_id=spec.model_id,
                pipeline=spec.pipeline,
                traceparent=spec.traceparent,
            ),
            private_folder(host.work_root) as folder,
            make_client(read_seconds=STORAGE_READ_SECONDS) as storage,
            run_log(folder / LOG_NAME, hide=folder) as lines,
        ):
            run = AttemptRun(
                host,
                api.attempt(spec),
                spec,
                storage=storage,
                folder=folder,
                lines=lines,
                claimed_at=claimed_at,
            )
            return run.execute()


def _claim(host: RunHost, api: ApiClient, attempt_id: UUID) -> JobSpec | None:
    """The claimed attempt, or None if it is not to be run any more."""
    # Drawn once: a repeat after a lost answer is recognised as the same claim.
    request = ClaimRequest(worker_name=host.worker_name, claim_id=uuid4())
    try:
        spec = retry(
            lambda: api.claim(attempt_id, request),
            policy=host.patience.claim,
            retryable=is_passing,
            on_failure=lambda error, wait: log.warning(
                "claim.retry", reason=str(error), wait_seconds=round(wait, 1)
            ),
        )
    except AttemptLostError as error:
        log.info("claim.refused", reason=str(error))
        return None
    log.info("claim.granted", attempt=spec.attempt, lease_seconds=spec.lease_seconds)
    return spec


class AttemptRun:
    """One claimed attempt."""

    def __init__(
        self,
        host: RunHost,
        api: AttemptApi,
        spec: JobSpec,
        *,
        storage: httpx.Client,
        folder: Path,
        lines: RunLog,
        claimed_at: float,
    ) -> None:
        self._host = host
        self._spec = spec
        self._folder = folder
        self._lines = lines
        self._storage = storage
        self._api = api
        self._control = RunControl()
        self._supervisor = Supervisor(
            self._api,
            spec,
            claimed_at=claimed_at,
            control=self._control,
            mailbox=host.mailbox,
            abandon=self._abandon,
            timings=host.timings,
        )
        self._uploads = UploadQueue(
            FileUploader(
                self._api, storage, policy=host.patience.upload, pause=self._control.pause
            ),
            self._control,
        )
        self._abandoned = False

    def execute(self) -> str:
        """Run and report; the outcome in a word."""
        self._supervisor.start()
        try:
            outcome = self._run()
            self._uploads.discard()
            if outcome is None or self._abandoned:
                return LOST
            return self._report(outcome)
        finally:
            self._supervisor.close()

    def _run(self) -> FinishRequest | None:
        """Everything up to the report; None if there is nobody to report to."""
        started = time.monotonic()
        try:
            metrics = self._make()
            records = self._uploads.drain()
        except PipelineUnavailableError as error:
            return AttemptReleased(reason=storable(" ".join(error.reasons))[:500])
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a pipeline raises)
            return self._judge(error)
        log.info("run.done", seconds=round(time.monotonic() - started, 3), artifacts=len(records))
        return AttemptSucceeded(
            artifact_ids=[record.artifact_id for record in records],
            metrics=_finite(metrics),
        )

    def _make(self) -> dict[str, float]:
        """Download, set up and run the pipeline, within the time limit."""
        spec = self._spec
        with self._supervisor.working():
            self._host.pipelines.require(spec.pipeline)
            inputs = download_inputs(
                self._storage,
                spec.inputs,
                self._folder / "inputs",
                policy=self._host.patience.download,
                check=self._control.check,
                pause=self._control.pause,
            )
            self._control.check()
            pipeline = self._host.pipelines.ready(spec.pipeline)
            work_dir = self._folder / "work"
            work_dir.mkdir()
            metrics = pipeline.run(
                RunInput(
                    job_id=spec.job_id,
                    model_id=spec.model_id,
                    model_version=spec.model_version,
                    params=spec.params,
                    prompt=spec.prompt,
                    inputs=inputs,
                    work_dir=work_dir,
                ),
                RunReporter(self._control, self._supervisor, self._uploads),
            )
        self._control.check()
        return metrics

    def _judge(self, error: BaseException) -> FinishRequest | None:
        """What an exception means. A reason to stop explains whatever came after it."""
        reason = self._control.reason
        if reason is not None:
            log.info("run.stopped", reason=reason.value, by=type(error).__name__)
            if reason is StopReason.UPLOAD_FAILED and self._uploads.failure is not None:
                return self._failure(self._uploads.failure)
            return self._stopped(reason)
        return self._failure(error)

    def _stopped(self, reason: StopReason) -> FinishRequest | None:
        if reason is StopReason.CANCELLED:
            return AttemptCancelled()
        if reason is StopReason.TIME_LIMIT:
            return self._failed(
                FailureCode.TIME_LIMIT_EXCEEDED,
                f"The run took longer than its limit of {self._spec.time_limit_seconds} s.",
                permanent=True,
            )
        if reason is StopReason.STOPPED:
            return AttemptReleased(reason="The run was stopped by a command to its worker.")
        return None

    def _failure(self, error: BaseException) -> FinishRequest:
        if isinstance(error, PipelineError):
            log.warning("run.failed", code=error.code, permanent=error.permanent)
            if _CODE.fullmatch(error.code):
                return self._failed(error.code, error.message, permanent=error.permanent)
        kind = type(error).__name__
        # torch's OutOfMemoryError is recognised by name, since torch is not imported here.
        if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
            log.error("run.out_of_memory", exc_info=error)
            return self._failed(
                FailureCode.OUT_OF_MEMORY, "The machine's memory was not enough.", permanent=False
            )
        if kind == "JobTimeoutException":
            # RQ's own limit lies above the model's, but counts from before the claim.
            log.warning("run.queue_timeout")
            return AttemptReleased(reason="The claim took so long that RQ's time was over.")
        log.error("run.crashed", exc_info=error)
        return self._failed(
            FailureCode.PIPELINE_ERROR,
            f"The pipeline {self._spec.pipeline} stopped with an unexpected {kind};"
            " the run's log says where.",
            permanent=False,
        )

    def _failed(self, code: str, message: str, *, permanent: bool) -> AttemptFailed:
        text = storable(redact(message).replace(str(self._folder), "<work>"))[:2000]
        return AttemptFailed(
            code=code, message=text, permanent=permanent, log_tail=self._lines.tail()
        )

    def _report(self, outcome: FinishRequest) -> str:
        record = None
        if not isinstance(outcome, AttemptReleased) or self._control.reason is StopReason.STOPPED:
            record = self._upload_log()
        if isinstance(outcome, AttemptSucceeded) and record is not None:
            ids = [*outcome.artifact_ids, record.artifact_id]
            outcome = outcome.model_copy(update={"artifact_ids": ids})
        try:
            self._finish(outcome, self._host.patience.finish)
        except AttemptLostError as error:
            log.warning("attempt.lost", reason=str(error))
            return LOST
        except ApiRefusedError as error:
            if isinstance(error, WorkerKeyRefusedError) or not isinstance(
                outcome, AttemptSucceeded
            ):
                raise
            log.warning("finish.refused", reason=str(error))
            outcome = self._failed(
                FailureCode.INVALID_OUTPUT,
                f"The result was refused: {error.detail}",
                permanent=False,
            )
            self._finish(outcome, self._host.patience.finish)
        return outcome.outcome

    def _finish(self, outcome: FinishRequest, policy: RetryPolicy) -> None:
        """Deliver the report; the body stays the same, so that a repeat is recognised."""
        reply = retry(
            lambda: self._api.finish(outcome),
            policy=policy,
            retryable=is_passing,
            on_failure=lambda error, wait: log.warning(
                "finish.retry", reason=str(error), wait_seconds=round(wait, 1)
            ),
        )
        log.info("finish.reported", outcome=outcome.outcome, job_status=reply.job_status)

    def _upload_log(self) -> ArtifactRecord | None:
        """Hand over the run's log, if it can be done soon."""
        self._lines.flush()
        if self._lines.path.stat().st_size == 0:
            return None
        # A copy, since this very upload writes lines too.
        folder = self._folder / "log"
        folder.mkdir(exist_ok=True)
        path = Path(shutil.copyfile(self._lines.path, folder / LOG_NAME))
        uploader = FileUploader(
            self._api,
            self._storage,
            policy=self._host.patience.log_upload,
            pause=self._sleep,
        )
        try:
            return uploader.upload(Upload(ArtifactKind.LOG, path, "text/plain"))
        except Exception as error:  # noqa: BLE001  (the outcome matters more than its log)
            log.warning("log.not_uploaded", reason=str(error))
            return None

    def _sleep(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self._control.reason is StopReason.LOST

    def _abandon(self, reason: StopReason) -> None:
        """Report for a pipeline that doesn't stop, and end the process it runs in."""
        self._abandoned = True
        outcome = self._stopped(reason)
        if reason is StopReason.UPLOAD_FAILED and self._uploads.failure is not None:
            outcome = self._failure(self._uploads.failure)
        if outcome is not None:
            with suppress(Exception):
                self._finish(outcome, self._host.patience.last_words)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._host.exit_process(1)


def _finite(metrics: Mapping[str, float] | None) -> dict[str, float]:
    """Metrics that JSON can carry, at most as many as a report may hold."""
    numbers = {
        storable(str(name)): float(value)
        for name, value in (metrics or {}).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return dict(list(numbers.items())[:100])
