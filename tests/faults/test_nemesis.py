"""Nothing is lost, whatever dies: the whole platform under a minute of faults.

`make chaos SECONDS=… SEED=…` runs the same for longer.
"""

import os
import random
from pathlib import Path

from tests.faults.chaos import run

SECONDS = 60.0


def test_nothing_is_lost(tmp_path: Path) -> None:
    """Accepted jobs end, once, within the limits, with the files they promise."""
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))
    print(f"\nCHAOS_SEED={seed}")
    report = run(tmp_path, seconds=SECONDS, seed=seed)
    print(report.table())
    assert report.jobs["SUCCEEDED"] > 0
    assert {name: found for name, found in report.complaints.items() if found} == {}
