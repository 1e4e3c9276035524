"""The worker against its peers, and the whole path of a job; exit status 1 if a limit is missed.

`python bench/bench_worker.py [--quick]`. The peers' environments are installed at the first run.
docs/performance.md says what is compared, and why that is fair.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.worker_bench.main import main

if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv[1:]))
