"""What `video-analytics` costs: frames a second, CPU time of each part, memory.

`python bench/bench_video_analytics.py [--quick | --seconds N] [--hour]`. Figures walk through a
street of 720p30 (60 s; 10 s with --quick), without reading; then the same with every preset of x264
that may be set, and with reading. With --hour also a small video of one hour and one of six minutes
(108 000 and 10 800 frames): memory must not grow.

CPU time is what counts on a shared machine: two cores can make at most 2 / CPU seconds frames, and
the slowest of the three (child, analysis, drawing and encoding) bounds them too, since they run
beside each other. Exit status 1 if less than 30 frames a second come of that, or if memory grows.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import cv2
import numpy as np

from contract.kinds import ArtifactKind
from worker_vm.pipelines.analytics.pipeline import AnalyticsPipeline
from worker_vm.pipelines.base import RunInput

RATE = 30
QUICK_SECONDS, FULL_SECONDS = 10, 60
CORES = 2
WANTED_RATE = 30
MOST_GROWTH_MB = 32
ZONES = [
    {"name": "left", "x1": 0.05, "y1": 0.5, "x2": 0.3, "y2": 0.95},
    {"name": "right", "points": [[0.6, 0.5], [0.9, 0.5], [0.95, 0.95], [0.55, 0.95]]},
]
COLOURS = [(60, 60, 200), (200, 120, 50), (60, 180, 70), (60, 190, 220), (180, 70, 170)]


def make_clip(path: Path, seconds: int, size: tuple[int, int]) -> None:
    """Five figures that walk to and fro in front of a wall, with a camera's noise."""
    width, height = size
    rng = np.random.default_rng(1)
    small = rng.integers(90, 150, (height // 40 + 1, width // 40 + 1, 3), np.uint8)
    wall = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    noises = [rng.normal(0, 2, (height, width, 1)).astype(np.int8) for _ in range(8)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "superfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * RATE):
            picture = wall.copy()
            for figure, colour in enumerate(COLOURS):
                draw_figure(picture, figure, colour, number / RATE)
            noise = noises[number % len(noises)]
            picture = cv2.add(picture.astype(np.int16), np.repeat(noise, 3, 2).astype(np.int16))
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), "bgr24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def draw_figure(
    picture: np.ndarray, figure: int, colour: tuple[int, int, int], time_s: float
) -> None:
    """One of them."""
    height, width = picture.shape[:2]
    tall = height * (0.16 + 0.02 * figure)
    way = (time_s * (0.06 + 0.015 * figure) + 0.2 * figure) % 2
    x, y = width * (way if way < 1 else 2 - way), height * (0.6 + 0.08 * figure)
    for up, wide, high, shade in ((0.35, 0.18, 0.38, 1.0), (-0.15, 0.13, 0.3, 0.5)):
        axes = int(tall * wide), int(tall * high)
        tone = tuple(int(part * shade) for part in colour)
        cv2.ellipse(picture, (int(x), int(y - tall * up)), axes, 0, 0, 360, tone, -1)


class Quiet:
    """A reporter that has nothing to say."""

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """Nothing."""

    def artifact(self, kind: ArtifactKind, path: Path, media_type: str) -> None:
        """Nothing."""

    def event(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002
        """Nothing."""


def run_once(clip: Path, folder: Path, *, reads: bool) -> dict[str, float]:
    """The pipeline on a clip, in this process; its metrics and what all of it cost."""
    pipeline = AnalyticsPipeline()
    pipeline.setup()
    import_module("worker_vm.pipelines.analytics.run")  # a warm worker has done so
    begun = resource.getrusage(resource.RUSAGE_SELF)
    job = RunInput(
        job_id=uuid.uuid4(),
        model_id="video-analytics-v1",
        model_version="1.0.0",
        params={"video_path": "video.mp4", "zones": ZONES, "ocr": reads},
        prompt=None,
        inputs={"video_path": clip},
        work_dir=folder,
    )
    metrics = pipeline.run(job, Quiet())
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {
        **metrics,
        "cpu_child_seconds": child.ru_utime + child.ru_stime,
        "cpu_own_seconds": own.ru_utime + own.ru_stime - begun.ru_utime - begun.ru_stime,
        "peak_mb": own.ru_maxrss / 1024,
    }


def measure(clip: Path, *, preset: str = "veryfast", reads: bool = False) -> dict[str, float]:
    """Run it twice in processes of their own: the first compiles what is compiled once."""
    environment = {
        **os.environ,
        "WORKER_THREADS": "1",
        "OPENCV_FOR_THREADS_NUM": "1",
        "OMP_NUM_THREADS": "1",
        "ANALYTICS_X264_PRESET": preset,
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--once", str(clip), folder, str(int(reads))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}


def per_frame(found: dict[str, float]) -> dict[str, float]:
    """Milliseconds of CPU time a frame of each part; `rest` is mostly taking in frames."""
    frames = found["frame_count"]
    names = ("child", "detect", "track", "cluster", "read", "draw", "encode")
    parts = {name: 1000 * found[f"cpu_{name}_seconds"] / frames for name in names}
    inside = sum(parts[name] for name in names[1:])
    return {**parts, "rest": 1000 * found["cpu_own_seconds"] / frames - inside}


def possible_rate(parts: dict[str, float]) -> float:
    """Frames a second on two quiet cores, by CPU time: all of it on both, or the slowest alone."""
    analysis = sum(parts[name] for name in ("detect", "track", "cluster", "read", "rest"))
    slowest = max(parts["child"], analysis, parts["draw"] + parts["encode"])
    return min(1000 / slowest, CORES * 1000 / sum(parts.values()))


def compare(folder: Path, seconds: int) -> bool:
    """Print the table; whether the wanted rate is possible."""
    clip = folder / "street.mp4"
    make_clip(clip, seconds, (1280, 720))
    measure(clip)
    ways = {
        "veryfast": measure(clip),
        "superfast": measure(clip, preset="superfast"),
        "ultrafast": measure(clip, preset="ultrafast"),
        "reading": measure(clip, reads=True),
    }
    first = per_frame(ways["veryfast"])
    print("CPU ms a frame  " + "".join(f"{name:>9}" for name in first) + "   frames/s   peak MB")
    for way, found in ways.items():
        parts = per_frame(found)
        row = "".join(f"{value:9.2f}" for value in parts.values())
        peak = found["peak_mb"]
        print(f"{way:15} {row} {possible_rate(parts):10.1f} {peak:9.0f}")
        print(f"{'':15} by the clock here: {found['frames_per_second']:.1f} frames/s")
    kept = possible_rate(first) >= WANTED_RATE
    print(f"{'kept  ' if kept else 'MISSED'}  {WANTED_RATE} frames/s of 720p on two cores")
    return kept


def compare_lengths(folder: Path) -> bool:
    """Whether an hour needs no more memory than six minutes."""
    peaks = []
    for seconds in (360, 3600):
        clip = folder / f"{seconds}.mp4"
        make_clip(clip, seconds, (160, 96))
        begun = time.monotonic()
        peaks.append(measure(clip)["peak_mb"])
        print(f"{seconds} s of video: {peaks[-1]:.0f} MB, {time.monotonic() - begun:.0f} s")
    kept = peaks[1] - peaks[0] <= MOST_GROWTH_MB
    print(f"{'kept  ' if kept else 'MISSED'}  at most {MOST_GROWTH_MB} MB more for an hour")
    return kept


def main(seconds: int, *, hour: bool) -> int:
    """Measure; 1 if something is missed."""
    with tempfile.TemporaryDirectory() as folder:
        kept = compare(Path(folder), seconds)
        if hour:
            kept = compare_lengths(Path(folder)) and kept
    return 0 if kept else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        for name, value in run_once(
            Path(sys.argv[2]), Path(sys.argv[3]), reads=sys.argv[4] == "1"
        ).items():
            print(name, value)
        raise SystemExit(0)
    asked = sys.argv[sys.argv.index("--seconds") + 1] if "--seconds" in sys.argv else FULL_SECONDS
    raise SystemExit(
        main(QUICK_SECONDS if "--quick" in sys.argv else int(asked), hour="--hour" in sys.argv)
    )
