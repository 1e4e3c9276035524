"""What RQ calls: the one function a worker may be asked to run."""

from uuid import UUID

from worker_vm import runner


class _Process:
    """What this process runs attempts with; set once, before the first task."""

    host: runner.RunHost | None = None


def configure(host: runner.RunHost) -> None:
    """Say what attempts are run with in this process."""
    _Process.host = host


def run_attempt(attempt_id: str) -> str:
    """Run one attempt; see `runner.run_attempt`.

    Raises:
        ApiError: the claim or the report could not be delivered.
    """
    host = _Process.host
    if host is None:
        raise RuntimeError("tasks.configure() must be called before a task runs.")
    return runner.run_attempt(host, UUID(attempt_id))
