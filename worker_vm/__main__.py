"""`python -m worker_vm`: take attempts from one queue and run them."""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from pydantic import TypeAdapter, ValidationError
from rq.exceptions import StopRequested

from contract.workers import QueueName
from worker_vm import __version__, tasks
from worker_vm.api_client import ApiClient
from worker_vm.config import WorkerSettings, load_settings, set_thread_limits
from worker_vm.logs import configure_logging, get_logger
from worker_vm.presence import Presence, unique_name
from worker_vm.redis_link import PatientRetry, connect
from worker_vm.rq_worker import AttemptWorker
from worker_vm.runner import RunHost
from worker_vm.workspace import Workspace

log = get_logger(__name__)

INTERRUPTED = 130

DESCRIPTION = """\
Take attempts from one queue of Pipeline 3D and run them on this machine.

The worker needs to reach Redis, the API and object storage. It needs no database and no storage
keys: inputs and results travel by presigned URLs.
"""

EPILOG = """\
settings (environment, or .env in the current folder):
  REDIS_URL        where tasks come from, such as redis://:password@host:6379/0
  API_URL          the API's address, such as https://api.example.org
  WORKER_API_KEY   the worker key
  WORKER_QUEUE     the queue to serve (default: cpu)
  WORKER_WORK_DIR  where private folders are made (default: the temporary folder)
  WORKER_THREADS   threads of the numeric libraries (default: 1)
  LOG_LEVEL        debug, info, warning or error (default: info)
  LOG_FORMAT       auto, json or pretty (default: auto)

signals:
  SIGTERM, SIGINT  finish the running attempt, take no other, exit 0; a second one, a second or
                   more later, kills the attempt, which another worker takes over

docs/worker.md says more.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to stop; the exit status."""
    options = _parser().parse_args(arguments)
    settings = load_settings()
    if options.queue is not None:
        settings = settings.model_copy(update={"worker_queue": options.queue})
    set_thread_limits(settings.worker_threads, os.environ)
    configure_logging(settings.log_level, settings.log_format)
    try:
        return serve(settings, burst=options.burst)
    except KeyboardInterrupt:
        return INTERRUPTED


def serve(settings: WorkerSettings, *, burst: bool) -> int:
    """Register with Redis and the API, and work until stopped.

    Returns:
        0 after a stop on request or a finished burst; 1 when the work loop ended by itself.
    """
    name = unique_name()
    open_api = partial(ApiClient, settings.api_url, settings.worker_api_key)
    workspace = Workspace(settings.work_dir)
    try:
        tasks.configure(RunHost(worker_name=name, open_api=open_api, work_root=workspace.folder))
        log.info(
            "worker.starting",
            worker=name,
            queue=settings.worker_queue,
            api=settings.api_url,
            version=__version__,
        )
        return _work(settings, name, open_api, workspace, burst=burst)
    finally:
        workspace.close()


def _work(
    settings: WorkerSettings,
    name: str,
    open_api: partial[ApiClient],
    workspace: Workspace,
    *,
    burst: bool,
) -> int:
    presence = Presence(
        name=name,
        queue=settings.worker_queue,
        open_api=open_api,
        current_attempt=lambda: worker.current_attempt,
    )
    retry = PatientRetry()
    worker = AttemptWorker(
        settings.worker_queue,
        name=name,
        connection=connect(settings.redis_url, retry),
        retry=retry,
        workspace=workspace,
        fork_guard=presence.fork_guard,
    )
    worker.install_signal_handlers()
    presence.start()
    asked = False
    try:
        worker.work(burst=burst, logging_level=settings.log_level.upper())
        asked = worker.stopped_on_request
    except StopRequested:
        asked = True
    finally:
        presence.stop()
        log.info("worker.stopped", worker=name)
    return 0 if asked or burst else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker_vm",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--queue", type=_queue, help="the queue to serve, over WORKER_QUEUE")
    parser.add_argument(
        "--burst", action="store_true", help="exit when the queue is empty instead of waiting"
    )
    parser.add_argument("--version", action="version", version=f"worker_vm {__version__}")
    return parser


def _queue(text: str) -> str:
    try:
        return TypeAdapter[str](QueueName).validate_python(text)
    except ValidationError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no queue name; use lower-case letters, digits, - and _"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
