"""How much CPU time it takes to say what a 3D result is good for; exit status 1 over the limit.

`python bench/bench_mesh_quality.py`. A knobbly ring of about 40 000 triangles with a JPEG texture
of 1024 pixels is read and checked five times in a process that is warmed up, as a worker's is; the
median counts. The other formats are timed beside it, without a limit: only who asks pays.
"""

# ruff: noqa: E402  (the libraries read the number of threads when they are imported)

import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from worker_vm.gltf import Material, Mesh, write_glb
from worker_vm.meshes.crossings import find_crossings
from worker_vm.meshes.exports import write
from worker_vm.meshes.formats import Format
from worker_vm.meshes.glb_reader import read_glb
from worker_vm.meshes.handover import warm_up
from worker_vm.meshes.texel_use import measure_texels
from worker_vm.meshes.topology import analyse

QUADS = 142
"""along each way round the ring"""
TIMES = 5
MAX_CPU_SECONDS = 0.5


def ring(path: Path) -> None:
    """Write the ring: seams where the texture's borders meet, as any unwrapped mesh has them."""
    steps = np.arange(QUADS + 1) / QUADS
    u, v = (axis.ravel() for axis in np.meshgrid(steps, steps, indexing="ij"))
    turn, tilt = (2 * np.pi * np.where(axis == 1.0, 0.0, axis) for axis in (u, v))
    radius = 0.3 + 0.02 * np.sin(20 * turn) * np.sin(12 * tilt)
    points = np.stack(
        [
            (1 + radius * np.cos(tilt)) * np.cos(turn),
            radius * np.sin(tilt),
            (1 + radius * np.cos(tilt)) * np.sin(turn),
        ],
        axis=1,
    )
    away = np.stack(
        [np.cos(tilt) * np.cos(turn), np.sin(tilt), np.cos(tilt) * np.sin(turn)], axis=1
    )
    row = QUADS + 1
    corner = (np.arange(QUADS)[:, None] * row + np.arange(QUADS)).ravel()
    faces = np.vstack(
        [
            np.stack([corner, corner + row + 1, corner + row], axis=1),
            np.stack([corner, corner + 1, corner + row + 1], axis=1),
        ]
    )
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((1024, 1024), Image.Resampling.BICUBIC).save(out, "JPEG")
    mesh = Mesh(
        *(values.astype(np.float32) for values in (points, away, np.stack([u, v], axis=1))),
        faces.astype(np.uint32),
    )
    material = Material(out.getvalue(), "image/jpeg", 0.6)
    write_glb(path, mesh, material, name="ring", extras={})


def cpu_ms(action: Callable[[], object]) -> float:
    """The median of the CPU time that an action takes, in milliseconds."""
    taken = []
    for _ in range(TIMES):
        start = time.process_time()
        action()
        taken.append(1000 * (time.process_time() - start))
    return statistics.median(taken)


def main() -> int:
    """Print a table and return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        glb = Path(folder) / "model.glb"
        ring(glb)
        warm_up()
        contents = read_glb(glb)
        shape = analyse(contents.positions, contents.faces)
        assert shape.watertight
        assert shape.inverted_bodies == 0
        steps: dict[str, Callable[[], object]] = {
            "read, check the structure, decode": lambda: read_glb(glb),
            "closed, bodies, winding": lambda: analyse(contents.positions, contents.faces),
            "self-intersections": lambda: find_crossings(shape.points, shape.faces),
            "texture use": lambda: measure_texels(contents),
        }
        print(f"{len(contents.faces)} triangles\n\n| step | CPU ms |\n|---|---:|")
        total = 0.0
        for name, step in steps.items():
            total += (taken := cpu_ms(step))
            print(f"| {name} | {taken:.0f} |")
        print(f"| **all** | **{total:.0f}** |")
        for wanted in list(Format)[1:]:
            taken = cpu_ms(lambda wanted=wanted: write(contents, wanted, glb))
            print(f"| write {wanted} | {taken:.0f} |")
    over = total > 1000 * MAX_CPU_SECONDS
    print(f"\nLimit: {MAX_CPU_SECONDS:g} s of CPU. {'Over it.' if over else 'Within it.'}")
    return int(over)


if __name__ == "__main__":
    raise SystemExit(main())
