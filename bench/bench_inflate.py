"""How much CPU time and memory one run of `inflate` takes; exit status 1 over the limits.

`python bench/bench_inflate.py [picture …]`. Each picture is run in a fresh process, first cold (the
kernels' cache empty), then warm (as every later start of a worker). CPU time is user + system of
the process and its children, which does not depend on what else runs on the machine; the limit is
for one warm run without set-up. The sample is run once more with four `layers`.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "devstack" / "samples" / "duck.png"
LAYERS = {
    "wing": [[0.45, 0.58], [0.56, 0.51], [0.7, 0.51], [0.77, 0.57], [0.74, 0.66], [0.62, 0.72],
             [0.5, 0.71], [0.44, 0.65]],
    "collar": [[0.305, 0.445], [0.5, 0.385], [0.535, 0.39], [0.535, 0.43], [0.34, 0.485],
               [0.31, 0.48]],
    "eye": [[0.28, 0.25], [0.31, 0.22], [0.345, 0.24], [0.345, 0.28], [0.315, 0.305],
            [0.285, 0.29]],
    "beak": [[0.12, 0.3], [0.16, 0.283], [0.22, 0.29], [0.24, 0.32], [0.235, 0.375],
             [0.17, 0.37], [0.16, 0.34]],
}  # fmt: skip
"""Of the sample: outlined by hand, in fractions of the picture."""
MAX_CPU_SECONDS = 4.0
MAX_MEMORY_BYTES = 1_000_000_000
ROW = "| {:<12} | {:<6} | {:>8} | {:>6} | {:>7} | {:>7} | {:>7} | {:>9} |"


def cpu_seconds() -> float:
    """User and system time of this process and its ended children."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


class _Quiet:
    """A reporter that adds up what is handed over."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """Ignore it."""

    def artifact(self, kind: object, path: Path, media_type: str) -> None:  # noqa: ARG002
        """Note the size."""
        self.sizes[path.name] = path.stat().st_size


def run_once(picture: Path, *, layers: bool) -> None:
    """Run the pipeline in this process and print what it took as JSON."""
    sys.path.insert(0, str(ROOT))
    from worker_vm.pipelines.base import RunInput  # noqa: PLC0415
    from worker_vm.pipelines.registry import load_pipeline  # noqa: PLC0415

    start = cpu_seconds()
    pipeline = load_pipeline("inflate")()
    pipeline.setup()
    ready = cpu_seconds()
    quiet = _Quiet()
    with tempfile.TemporaryDirectory() as folder:
        job = RunInput(
            job_id=uuid.uuid4(),
            model_id="inflate-v1",
            model_version="1.0.0",
            params={"image_path": picture.name, "layers": [*LAYERS.values()] if layers else []},
            prompt=None,
            inputs={"image_path": picture},
            work_dir=Path(folder),
        )
        metrics = pipeline.run(job, quiet)
    print(
        json.dumps(
            {
                "setup": ready - start,
                "run": cpu_seconds() - ready,
                "wall": metrics["total_seconds"],
                "peak": metrics["peak_memory_bytes"],
                "faces": metrics["faces"],
                "sizes": quiet.sizes,
            }
        )
    )


def measure(picture: Path, cache: Path, state: str) -> dict[str, Any]:
    """Run in a fresh process, one thread everywhere."""
    one = dict.fromkeys(("WORKER_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, __file__, "--once", str(picture), state],
        env={**os.environ, **one, "NUMBA_CACHE_DIR": str(cache)},
        check=True,
        capture_output=True,
        text=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main(pictures: list[Path]) -> int:
    """Print a table and return the exit status."""
    print(
        ROW.format("picture", "state", "set-up s", "run s", "peak MB", "faces", "GLB kB", "all kB")
    )
    print(ROW.format(*("---" for _ in range(8))))
    over = False
    for picture in pictures:
        with tempfile.TemporaryDirectory() as cache:
            for state in ("cold", "warm", *(["layers"] if picture == SAMPLE else [])):
                told = measure(picture, Path(cache), state)
                sizes = told["sizes"]
                print(
                    ROW.format(
                        picture.stem[:12], state, f"{told['setup']:.2f}", f"{told['run']:.2f}",
                        round(told["peak"] / 1e6), int(told["faces"]),
                        round(sizes["model.glb"] / 1e3), round(sum(sizes.values()) / 1e3),
                    )
                )  # fmt: skip
                over |= told["peak"] > MAX_MEMORY_BYTES
                over |= state != "cold" and told["run"] > MAX_CPU_SECONDS
    print(f"\nLimits: {MAX_CPU_SECONDS:g} s of CPU a run, {MAX_MEMORY_BYTES // 10**6} MB.")
    print("Over the limit." if over else "Within the limits.")
    return int(over)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        run_once(Path(sys.argv[2]), layers=sys.argv[3] == "layers")
    else:
        raise SystemExit(main([Path(name) for name in sys.argv[1:]] or [SAMPLE]))
