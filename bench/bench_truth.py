"""How near to the truth `inflate` comes, on objects whose shape is known.

`python bench/bench_truth.py [object …]` prints one row per object: the silhouette's overlap on four
backgrounds, and the errors of the shape where the outline is given (transparent background). It
measures no time, so a busy machine does not matter. What has limbs in front of its body is measured
again with `layers`, and what is symmetrical once more with `symmetry`. `--pictures FOLDER` keeps
the pictures.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.truth import measures, pictures, sets
from worker_vm.cutout import cut_out
from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate import model
from worker_vm.pipelines.inflate.parameters import Parameters

ROW = "| {:<9} | {:>6} | {:>6} | {:>7} | {:>6} | {:>8} | {:>11} | {:>7} | {:>6} |"
COLUMNS = ("object", *pictures.BACKGROUNDS, "normal °", "thickness %", "front %", "back")
SYMMETRY_ROW = "| {:<9} | {:>6} | {:>15} | {:>13} | {:>17} | {:>15} |"
SYMMETRY_COLUMNS = ("object", "score", "overlap", "normal °", "thickness %", "front %")


def made_from(rgba: np.ndarray, **asked: Any) -> measures.Surface:
    """Run the pipeline's own steps, without files."""
    return _shape_and_surface(rgba, asked)[1]


def _shape_and_surface(
    rgba: np.ndarray, asked: dict[str, Any]
) -> tuple[model.Shape, measures.Surface]:
    parameters = Parameters(image_path="x", **asked)
    subject = cut_out(
        rgba, hints=parameters.hints, seed=parameters.seed, max_side=parameters.texture_resolution
    )
    shape = model.make_shape(subject, parameters)
    mesh = shape.mesh
    texture = model.make_texture(shape, parameters)
    paint = measures.textured(texture, mesh.uvs.astype(np.float64), mesh.faces)
    return shape, measures.Surface(
        mesh.positions.astype(np.float64), mesh.normals.astype(np.float64), mesh.faces, paint
    )


def measure(name: str, keep: Path | None, *, layers: bool) -> tuple[list[float], measures.Errors]:
    """Return the overlaps per background (0 where refused), and the errors with alpha."""
    truth = sets.make(name)
    surface = measures.Surface(truth.points, truth.normals, truth.faces, truth.colours)
    overlaps, errors = [], []
    for background in pictures.BACKGROUNDS:
        rgba = pictures.take(truth, background)
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rgba).save(keep / f"{name}-{background}.png")
        try:
            outlines = pictures.outlines(truth, background) if layers else ()
            errors.append(measures.compare(made_from(rgba, layers=outlines), surface))
            overlaps.append(errors[-1].iou)
        except PipelineError as error:
            print(f"{name}, {background}: {error}", file=sys.stderr)
            overlaps.append(0.0)
    return overlaps, errors[0]


def row(name: str, overlaps: Iterable[float], shape: Iterable[float]) -> str:
    """Format one row."""
    normal, thickness, front, back = shape
    return ROW.format(
        name, *(f"{value:.3f}" for value in overlaps), f"{normal:.1f}", f"{100 * thickness:.1f}",
        f"{100 * front:.2f}", f"{back:.1f}",
    )  # fmt: skip


def table(names: Iterable[str], keep: Path | None, *, layers: bool = False) -> None:
    """Print a set's table and its mean; with the limbs outlined, if `layers`."""
    print(ROW.format(*COLUMNS))
    print(ROW.format(*("---" for _ in COLUMNS)))
    all_overlaps, all_shapes = [], []
    for name in names:
        overlaps, errors = measure(name, keep, layers=layers)
        shape = (errors.normal, errors.thickness, errors.front, errors.back)
        all_overlaps.append(overlaps)
        all_shapes.append(shape)
        print(row(name, overlaps, shape), flush=True)
    print(row("mean", np.mean(all_overlaps, axis=0), np.mean(all_shapes, axis=0)))


def symmetry_table(names: Iterable[str]) -> None:
    """Print the errors without → with `symmetry: auto`, of each object that it takes."""
    print(SYMMETRY_ROW.format(*SYMMETRY_COLUMNS))
    print(SYMMETRY_ROW.format(*("---" for _ in SYMMETRY_COLUMNS)))
    pairs = []
    for name in names:
        truth = sets.make(name)
        surface = measures.Surface(truth.points, truth.normals, truth.faces, truth.colours)
        rgba = pictures.take(truth, "alpha")
        shape, made = _shape_and_surface(rgba, {"symmetry": "auto"})
        if shape.mirror.paired is None:
            continue
        pairs.append([_shown(measures.compare(one, surface)) for one in (made_from(rgba), made)])
        print(_symmetry_row(name, f"{shape.mirror.overlap:.3f}", *pairs[-1]), flush=True)
    if pairs:
        print(_symmetry_row("mean", "", *np.mean(pairs, axis=0)))


def _shown(errors: measures.Errors) -> list[float]:
    return [errors.iou, errors.normal, 100 * errors.thickness, 100 * errors.front]


def _symmetry_row(name: str, score: str, before: Iterable[float], after: Iterable[float]) -> str:
    digits = (4, 2, 2, 3)
    pairs = zip(before, after, digits, strict=True)
    return SYMMETRY_ROW.format(name, score, *(f"{a:.{d}f} → {b:.{d}f}" for a, b, d in pairs))


def main() -> None:
    """Print a table for each set."""
    options = argparse.ArgumentParser(description=__doc__)
    every = [name for objects in sets.SETS.values() for name in objects]
    options.add_argument("objects", nargs="*", choices=[*every, []], metavar="object")
    options.add_argument("--pictures", type=Path, help="keep the pictures in this folder")
    given = options.parse_args()
    for title, objects in sets.SETS.items():
        names = [name for name in objects if not given.objects or name in given.objects]
        if names:
            print(f"\n{title}\n")
            table(names, given.pictures)
        limbed = [name for name in names if any(part.limb for part in objects[name]())]
        if limbed:
            print(f"\n{title}, limbs outlined\n")
            table(limbed, None, layers=True)
        if names:
            print(f"\n{title}, symmetry\n")
            symmetry_table(names)


if __name__ == "__main__":
    main()
