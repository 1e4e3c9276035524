"""How near to the truth the analysis of videos comes, and what it costs.

`python bench/bench_analytics.py [scene …] --seeds 11,12` prints one row per detector and scene:
MOTA, IDF1, id switches, events of zones found and wrong (within 0.4 s, for the oracle within one
frame), and how far in time they are off. `plain` is the usual way (`truth_video/plain.py`),
`motion` ours, `oracle` knows the truth, `rough` misses a twentieth of it and trembles by a pixel.
These figures are the same in every run, on any machine. `--cost LAPS` measures CPU time per frame
at 720p instead, and whether time and memory stay flat over a long video.
"""

import argparse
import gc
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.truth_video import drawing, runs, scenes
from bench.truth_video.drawing import Drawn
from bench.truth_video.measures import Figures
from bench.truth_video.plain import PlainDetector
from worker_vm.analytics.detector import Detector
from worker_vm.analytics.motion import MotionDetector
from worker_vm.analytics.tracking import TRACKER_NAMES, make_tracker
from worker_vm.analytics.zone_watch import ZoneWatch

ROW = "| {:<6} | {:<11} | {:>6} | {:>6} | {:>8} | {:>9} | {:>5} | {:>6} |"
COLUMNS = ("boxes", "scene", "MOTA", "IDF1", "switches", "events", "wrong", "off ms")
FRAME_S = 1 / scenes.RATE
DETECTORS: dict[str, tuple[Callable[[Sequence[Drawn]], Detector], float]] = {
    "plain": (lambda _: PlainDetector(), 0.4),
    "motion": (lambda _: MotionDetector(), 0.4),
    "oracle": (runs.Oracle, FRAME_S),
    "rough": (lambda drawn: runs.Oracle(drawn, missing=0.05, tremble=1.0, seed=3), 3 * FRAME_S),
}
"""How to make each, and how far in time its events may be off."""


def row(name: str, scene: str, figures: Figures) -> str:
    """Format one row."""
    off = 1000 * float(np.mean(np.abs(figures.late_s))) if figures.late_s else 0.0
    return ROW.format(
        name, scene, f"{figures.mota:.3f}", f"{figures.idf1:.3f}", figures.switches,
        f"{figures.events_found}/{figures.events}", figures.events_wrong, f"{off:.0f}",
    )  # fmt: skip


def quality(names: Sequence[str], seeds: Sequence[int], tracker: str, boxes: Sequence[str]) -> None:
    """Print the table."""
    print(ROW.format(*COLUMNS))
    print(ROW.format(*("---" for _ in COLUMNS)))
    totals = {name: Figures() for name in boxes}
    for scene_name in names:
        sums = {name: Figures() for name in boxes}
        for seed in seeds:
            scene = scenes.make(scene_name, seed)
            drawn = list(drawing.draw(scene))
            for name in boxes:
                make, tolerance_s = DETECTORS[name]
                detector = make(drawn)
                runs.warm_up(detector, drawn)
                zones = runs.zones_of(scene)
                figures, _ = runs.analyse(drawn, zones, detector, tracker, tolerance_s)
                sums[name].add(figures)
        for name, figures in sums.items():
            totals[name].add(figures)
            print(row(name, scene_name, figures), flush=True)
    for name, figures in totals.items():
        print(row(name, "all", figures))


def cost(laps: int) -> None:
    """Print CPU time per frame at 720p, lap by lap over the same crowd, and the peak of memory."""
    scene = scenes.make("crowd", 1)
    drawn = [one for number, one in enumerate(drawing.draw(scene, 2.0)) if number % 3 == 0]
    detector, follow = MotionDetector(), make_tracker("bytetrack", scenes.RATE / 3, (1280, 720))
    watch = ZoneWatch(runs.zones_of(scene, 2.0))
    detector.warm_up([one.picture for one in drawn[::7]])
    detector.detect(drawn[0].picture, 0, -1.0)  # compile
    frame = 0
    for lap in range(laps):
        spent = [0.0, 0.0]
        for one in drawn:
            time_s = 3 * frame / scenes.RATE
            start = time.process_time()
            found = detector.detect(one.picture, frame, time_s)
            between = time.process_time()
            watch.update(follow.update(found, one.picture, time_s), time_s, frame)
            follow.finished()
            spent[0] += between - start
            spent[1] += time.process_time() - between
            frame += 1
        gc.collect()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        detect, rest = (1000 * value / len(drawn) for value in spent)
        print(
            f"lap {lap}: {frame} frames, detect {detect:.1f} ms, tracks and zones {rest:.1f} ms of "
            f"CPU a frame, peak {peak:.0f} MiB",
            flush=True,
        )


def main() -> None:
    """Measure what is asked for."""
    cv2.setNumThreads(1)
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("scenes", nargs="*", help=", ".join(scenes.names()))
    options.add_argument("--seeds", default="11,12", help="1 and 2 were used for tuning")
    options.add_argument("--tracker", default="bytetrack", choices=TRACKER_NAMES)
    options.add_argument("--boxes", default=",".join(DETECTORS))
    options.add_argument("--cost", type=int, metavar="LAPS", help="measure CPU time instead")
    given = options.parse_args()
    if given.cost:
        cost(given.cost)
        return
    seeds = [int(seed) for seed in given.seeds.split(",")]
    quality(given.scenes or scenes.names(), seeds, given.tracker, given.boxes.split(","))


if __name__ == "__main__":
    main()
