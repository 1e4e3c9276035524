import logging
from collections.abc import Iterator
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import structlog
from fake_platform import WORKER_KEY, Platform
from pydantic import SecretStr

from worker_vm.api_client import ApiClient
from worker_vm.backoff import RetryPolicy
from worker_vm.logs import configure_logging
from worker_vm.pipelines import registry
from worker_vm.runner import Patience, RunHost
from worker_vm.supervisor import Timings

QUICK = RetryPolicy(first_wait=0.01, longest_wait=0.05, give_up_after=5)


@pytest.fixture
def platform() -> Iterator[Platform]:
    with Platform() as running:
        yield running


@pytest.fixture(autouse=True)
def scripted_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PIPELINES, "scripted", "scripted_pipeline:Scripted")
    monkeypatch.setitem(registry.PIPELINES, "unavailable", "scripted_pipeline:Unavailable")
    monkeypatch.setitem(registry.PIPELINES, "broken", "no_such_module:Nothing")


@pytest.fixture
def exits() -> list[int]:
    """Statuses with which a run wanted to end its process."""
    return []


@pytest.fixture
def host(platform: Platform, tmp_path: Path, exits: list[int]) -> RunHost:
    work_root = tmp_path / "work"
    work_root.mkdir()
    return RunHost(
        worker_name="tester-1",
        open_api=partial(ApiClient, platform.url, SecretStr(WORKER_KEY)),
        work_root=work_root,
        exit_process=exits.append,
        patience=Patience(
            claim=QUICK,
            download=QUICK,
            upload=QUICK,
            log_upload=QUICK,
            finish=QUICK,
            last_words=QUICK,
        ),
        timings=Timings(progress_spacing=0.01, stop_grace=0.2, longest_call=5),
    )


@pytest.fixture(autouse=True)
def process_log() -> Iterator[StringIO]:
    """What a worker process without a terminal would write to stderr."""
    stream = StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("info", "json", stream)
    ours = root.handlers[0]
    root.handlers = [*handlers, ours]
    yield stream
    root.removeHandler(ours)
    root.setLevel(level)
    structlog.reset_defaults()
