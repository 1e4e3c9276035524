"""One attempt from claim to report. Knows nothing of RQ; works in any thread, many times over."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from uuid import UUID, uuid4

import httpx
from structlog.contextvars import bound_contextvars

from contract.attempts import (
    AttemptSucceeded,
    ClaimRequest,
    DetectedEvent,
    FinishRequest,
    JobSpec,
)
from worker_vm import spool
from worker_vm.api_client import (
    ApiClient,
    AttemptLostError,
    WorkerKeyRefusedError,
    is_passing,
)
from worker_vm.backoff import retry
from worker_vm.control import RunControl, StopReason
from worker_vm.delivery import LOG_NAME, LOST, UNDELIVERED, Delivery, Patience
from worker_vm.downloads import Downloader
from worker_vm.event_outbox import EventOutbox
from worker_vm.host_pool import HostPool, PipelineUnavailableError, inputs_as_text
from worker_vm.host_protocol import Run
from worker_vm.logs import get_logger, run_log
from worker_vm.reporter import RunReporter
from worker_vm.reproduction import LARGEST_MANIFEST, ReproducedRun
from worker_vm.supervisor import Mailbox, Signal, Supervisor, Timings
from worker_vm.uploads import FileUploader, Upload, UploadQueue
from worker_vm.verdicts import Verdicts, finite

log = get_logger(__name__)

NOT_RUN = "not run"


@dataclass
class RunHost:
    """The process that runs attempts, as a run sees it.

    Args:
        worker_name: what the worker registered as.
        api: the API, over connections that outlive a run.
        storage: a client that doesn't carry the worker key.
        work_root: where private folders are made.
        pool: the pipeline hosts.
    """

    worker_name: str
    api: ApiClient
    storage: httpx.Client
    work_root: Path
    pool: HostPool
    patience: Patience = field(default_factory=Patience)
    timings: Timings = field(default_factory=Timings)
    mailbox: Mailbox = field(default_factory=SimpleQueue)
    ending: bool = False
    """Whether this process has to end now."""

    def stop_current(self) -> None:
        """Ask the current run to stop. Safe in a signal handler."""
        self.mailbox.put(Signal.STOP)

    def shut_down(self) -> None:
        """Have the current run end now: handed back, or kept on disk if it is finished."""
        self.ending = True
        self.mailbox.put(Signal.SHUTDOWN)

    def pause(self, seconds: float) -> bool:
        """Wait, at most until this process has to end; says whether it has to."""
        until = time.monotonic() + seconds
        while not self.ending and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return self.ending


def run_attempt(host: RunHost, attempt_id: UUID) -> str:
    """Claim an attempt, run its pipeline, upload what it makes and report.

    Returns:
        The outcome in a word: that of the report, `lost`, `not run` or `undelivered`.

    Raises:
        ApiError: the claim could not be made.
    """
    host.mailbox = SimpleQueue()
    if host.ending:
        host.mailbox.put(Signal.SHUTDOWN)
    with bound_contextvars(attempt_id=str(attempt_id)):
        # Before the claim: what cannot be run here for want of disk must not be claimed.
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=host.work_root))
        try:
            claimed = _claim(host, attempt_id)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if claimed is None:
            shutil.rmtree(folder, ignore_errors=True)
            return NOT_RUN
        spec, claimed_at = claimed
        with _attempt(host, spec, folder, claimed_at) as attempt:
            return attempt.run()


def deliver_spooled(host: RunHost, folder: Path) -> str:
    """Deliver what an earlier process of this worker has left in a run's folder.

    Returns:
        As `run_attempt`.
    """
    try:
        outcome = spool.load(folder)
    except (OSError, ValueError) as error:
        log.exception("spool.unreadable", reason=type(error).__name__)
        shutil.rmtree(folder, ignore_errors=True)
        return LOST
    spec = outcome.spec
    with (
        bound_contextvars(attempt_id=str(spec.attempt_id)),
        _attempt(host, spec, folder, time.monotonic(), outcome.events) as attempt,
    ):
        log.info("spool.found", files=len(outcome.files))
        uploads = [
            Upload(f.kind, path, f.media_type)
            for f in outcome.files
            if (path := folder / f.path).resolve().is_relative_to(folder.resolve())
        ]
        return attempt.deliver(outcome.report, uploads)


def _claim(host: RunHost, attempt_id: UUID) -> tuple[JobSpec, float] | None:
    """The claimed attempt and `time.monotonic()` before; None if it is not to be run any more."""
    # Drawn once: a repeat after a lost answer is recognised as the same claim.
    request = ClaimRequest(worker_name=host.worker_name, claim_id=uuid4())

    def claim() -> tuple[JobSpec, float]:
        # Of this try: waiting for the API is not charged to the run.
        before = time.monotonic()
        return host.api.claim(attempt_id, request), before

    try:
        spec, claimed_at = retry(
            claim,
            policy=host.patience.claim,
            # A refused key is the operator's to put right; failing every task does not help.
            retryable=lambda e: is_passing(e) or isinstance(e, WorkerKeyRefusedError),
            pause=host.pause,
            on_failure=lambda error, wait: log.warning(
                "claim.retry", reason=str(error), wait_seconds=round(wait, 1)
            ),
        )
    except AttemptLostError as error:
        log.info("claim.refused", reason=str(error))
        return None
    log.info("claim.granted", attempt=spec.attempt, lease_seconds=spec.lease_seconds)
    return spec, claimed_at


@contextmanager
def _attempt(
    host: RunHost,
    spec: JobSpec,
    folder: Path,
    claimed_at: float,
    events: Sequence[DetectedEvent] = (),
) -> Iterator["AttemptRun"]:
    """Everything around one attempt; its folder goes with it, unless it has to be kept."""
    with ExitStack() as stack:
        stack.enter_context(
            bound_contextvars(
                job_id=str(spec.job_id),
                model_id=spec.model_id,
                pipeline=spec.pipeline,
                traceparent=spec.traceparent,
            )
        )
        attempt = AttemptRun(host, spec, folder, claimed_at, stack, events=EventOutbox(events))
        stack.callback(attempt.clean_up)
        yield attempt


class AttemptRun:
    """One claimed attempt.

    Args:
        host: the process.
        spec: the attempt.
        folder: its private folder.
        claimed_at: `time.monotonic()` before the claim.
        stack: closes what is opened here.
        events: what the run sees in its input, and the app has not got yet.
    """

    def __init__(
        self,
        host: RunHost,
        spec: JobSpec,
        folder: Path,
        claimed_at: float,
        stack: ExitStack,
        *,
        events: EventOutbox,
    ) -> None:
        self._host = host
        self._spec = spec
        self._folder = folder
        # Until the app has the outcome, or does not want it, the folder may be all there is of it.
        self._outcome = UNDELIVERED
        self._events = events
        attempt_api = host.api.attempt(spec)
        lines = stack.enter_context(run_log(folder / LOG_NAME, hide=folder))
        self._control = RunControl()
        self._verdicts = Verdicts(spec, lines, folder)
        self._uploads = UploadQueue(
            FileUploader(
                attempt_api,
                host.storage,
                policy=host.patience.upload,
                pause=self._control.pause,
            ),
            self._control,
        )
        self._delivery = Delivery(
            attempt_api,
            host.storage,
            folder,
            control=self._control,
            uploads=self._uploads,
            events=events,
            verdicts=self._verdicts,
            lines=lines,
            patience=host.patience,
        )
        self._supervisor = Supervisor(
            attempt_api,
            spec,
            claimed_at=claimed_at,
            control=self._control,
            mailbox=host.mailbox,
            timings=host.timings,
            events=events,
        )
        self._supervisor.start()
        stack.callback(self._supervisor.close)

    def run(self) -> str:
        """Run the pipeline and deliver what comes of it; the outcome in a word."""
        report = self._make()
        if report is None:
            self._uploads.discard()
            self._outcome = LOST
            return LOST
        self._events.close()
        try:
            spool.save(
                self._folder, self._spec, report, self._uploads.submitted, self._events.unsent
            )
        except (OSError, ValueError) as error:
            # Without it the result does not survive this process; with luck it need not.
            log.error("spool.not_written", reason=str(error))  # noqa: TRY400
        self._outcome = self._delivery.deliver(report)
        return self._outcome

    def deliver(self, report: FinishRequest, uploads: list[Upload]) -> str:
        """Deliver what an earlier process has finished; the outcome in a word."""
        for upload in uploads:
            self._uploads.submit(upload)
        self._outcome = self._delivery.deliver(report)
        return self._outcome

    def clean_up(self) -> None:
        """Remove the folder, unless its outcome is still to be delivered."""
        if self._outcome != UNDELIVERED:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self) -> FinishRequest | None:
        """Everything up to the report; None if there is nobody to report to."""
        started = time.monotonic()
        try:
            with self._supervisor.working():
                report = self._run_pipeline()
            self._control.check()
        except PipelineUnavailableError as error:
            return self._verdicts.of_error(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever comes of a run)
            return self._judge(error)
        log.info("run.done", seconds=round(time.monotonic() - started, 3))
        return report

    def _run_pipeline(self) -> FinishRequest:
        """Download the inputs and run the pipeline in its host."""
        spec = self._spec
        self._host.pool.require(spec.pipeline, self._control)
        downloader = Downloader(
            self._host.storage,
            policy=self._host.patience.download,
            check=self._control.check,
            pause=self._control.pause,
        )
        inputs = downloader.fetch_inputs(spec.inputs, self._folder / "inputs")
        checkpoint = downloader.fetch_if_there(spec.checkpoint, self._folder / "checkpoint")
        reproduced = self._reproduced(downloader)
        self._control.check()
        work_dir = self._folder / "work"
        work_dir.mkdir()
        command = Run(
            pipeline=spec.pipeline,
            job_id=str(spec.job_id),
            model_id=spec.model_id,
            model_version=spec.model_version,
            params=spec.params,
            prompt=spec.prompt,
            inputs=inputs_as_text(inputs),
            work_dir=str(work_dir),
            checkpoint=None if checkpoint is None else str(checkpoint),
        )
        try:
            ended = self._host.pool.run(
                command,
                lambda free_other_memory: RunReporter(
                    self._control,
                    self._supervisor,
                    reproduced or self._uploads,
                    work_dir=work_dir,
                    free_other_memory=free_other_memory,
                ),
                self._control,
            )
            self._control.check()
            if ended.outcome == "succeeded" and reproduced is not None:
                reproduced.compare()
        finally:
            if reproduced is not None:
                reproduced.release()
        if ended.outcome == "succeeded":
            return AttemptSucceeded(artifact_ids=[], metrics=finite(ended.metrics))
        return self._verdicts.of_end(ended)

    def _reproduced(self, downloader: Downloader) -> ReproducedRun | None:
        """What is to be said of another job's result, if this one makes that again."""
        wanted = self._spec.reproduction
        if wanted is None:
            return None
        manifest = wanted.manifest
        if manifest is not None and manifest.size_bytes > LARGEST_MANIFEST:
            manifest = None
        original = downloader.fetch_if_there(manifest, self._folder / "original")
        return ReproducedRun(wanted, original, self._uploads, self._folder / "manifests")

    def _judge(self, error: BaseException) -> FinishRequest | None:
        """What an exception means. A reason to stop explains whatever came after it."""
        reason = self._control.reason
        if reason is None:
            return self._verdicts.of_error(error)
        log.info("run.stopped", reason=reason.value, by=type(error).__name__)
        if reason is StopReason.UPLOAD_FAILED and self._uploads.failure is not None:
            return self._verdicts.of_error(self._uploads.failure)
        return self._verdicts.of_stop(reason)
