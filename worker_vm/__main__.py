"""`python -m worker_vm`: take attempts from one queue and run them."""

import argparse
import ctypes
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from pydantic import TypeAdapter, ValidationError
from rq.exceptions import StopRequested

from contract.workers import QueueName
from worker_vm import __version__, doctor, tasks
from worker_vm.api_client import ApiClient
from worker_vm.config import WorkerSettings, load_settings
from worker_vm.host_pool import HostPool
from worker_vm.http_client import STORAGE_READ_SECONDS, make_client
from worker_vm.logs import configure_logging, get_logger
from worker_vm.presence import Presence, unique_name
from worker_vm.redis_link import PatientRetry, connect
from worker_vm.runner import RunHost
from worker_vm.spool_delivery import SpoolDelivery
from worker_vm.warm_worker import WarmWorker
from worker_vm.workspace import Workspace

log = get_logger(__name__)

INTERRUPTED = 130
_PR_SET_DUMPABLE = 4

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

  docs/worker.md lists the others: plug-ins, memory, recycling, draining.

commands:
  python -m worker_vm                          work
  python -m worker_vm doctor                   tell what this machine can run, and why not the rest
  python -m worker_vm doctor --require NAME    and exit with 1 if it cannot run NAME

signals:
  SIGTERM, SIGINT  finish the running attempt, take no other, exit 0; a second one hands the attempt
                   back at once

docs/worker.md says more.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to stop, or another command; the exit status."""
    options = _parser().parse_args(arguments)
    settings = load_settings()
    if options.queue is not None:
        settings = settings.model_copy(update={"worker_queue": options.queue})
    is_doctor = options.command == "doctor"
    configure_logging("error" if is_doctor else settings.log_level, settings.log_format)
    pool = HostPool(
        preload=() if is_doctor else settings.preload,
        environment=settings.host_environment(os.environ),
    )
    if is_doctor:
        return doctor.run(settings, pool, options.require)
    try:
        return serve(settings, pool, burst=options.burst)
    except KeyboardInterrupt:
        return INTERRUPTED


def serve(settings: WorkerSettings, pool: HostPool, *, burst: bool) -> int:
    """Register with Redis and the API, and work until stopped.

    Returns:
        0 after a stop on request or a finished burst; 1 when the work loop ended by itself, or a
        burst because no pipeline host starts.
    """
    _hide_from_pipelines()
    name = unique_name()
    open_api = partial(ApiClient, settings.api_url, settings.worker_api_key)
    workspace = Workspace(settings.work_dir)
    api = open_api()
    storage = make_client(read_seconds=STORAGE_READ_SECONDS)
    run_host = RunHost(name, api, storage, workspace.folder, pool)
    tasks.configure(run_host)
    spool = SpoolDelivery(run_host, workspace.spooled)
    retry = PatientRetry()
    worker = WarmWorker(
        settings.worker_queue,
        name=name,
        connection=connect(settings.redis_url, retry),
        retry=retry,
        run_host=run_host,
        workspace=workspace,
        spool=spool,
        drain_seconds=settings.worker_drain_seconds,
    )
    presence = Presence(
        name=name,
        queue=settings.worker_queue,
        open_api=open_api,
        current_attempt=lambda: worker.current_attempt,
        pipelines=pool.statuses,
    )
    pool.on_change = presence.report_soon
    log.info(
        "worker.starting",
        worker=name,
        queue=settings.worker_queue,
        api=settings.api_url,
        version=__version__,
    )
    worker.install_signal_handlers()
    # One that is slow, or never starts, must not keep the others from working.
    pool.await_started(give_up=lambda: worker.stopped_on_request or pool.able)
    presence.start()
    spool.start()
    asked = False
    # All this stays; the garbage collector need not look through it again for every few tasks.
    gc.collect()
    gc.freeze()
    try:
        worker.work(burst=burst, logging_level=settings.log_level.upper())
        asked = worker.stopped_on_request
    except StopRequested:
        asked = True
    finally:
        presence.stop()
        spool.stop()
        pool.stop()
        workspace.close()
        api.close()
        storage.close()
        log.info("worker.stopped", worker=name)
    return 0 if asked or (burst and not worker.unable) else 1


def _hide_from_pipelines() -> None:
    """Keep this process's environment and memory from others of the same user: its pipelines'."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker_vm",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    doctor.add_arguments(
        commands.add_parser("doctor", help="tell what this machine can run, and why not the rest")
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
