"""How long the stages of a run took, and how much memory it needed."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path


class Meter:
    """Seconds per stage, and the peak of resident memory since it was made."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        # Linux: start the high-water mark anew, or earlier runs of this process would count.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the wall-clock time of a block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @staticmethod
    def peak_bytes() -> int:
        """Return the peak of resident memory."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path("/proc/self/status").read_text(encoding="ascii")
            return int(status.split("VmHWM:")[1].split()[0]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
