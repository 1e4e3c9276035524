"""Make `docs/gallery`: pictures beside the models that `inflate` makes of them.

`make gallery`. All pictures are drawn or rendered here, so nobody else has rights in them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.truth import drawings, pictures, sets
from worker_vm.cutout import cut_out
from worker_vm.pipelines.inflate import model
from worker_vm.pipelines.inflate.parameters import Parameters
from worker_vm.rendering.studio import Studio, clay, textured

ROOT = Path(__file__).resolve().parents[2]
Bytes = NDArray[np.uint8]
Outlines = Sequence[Sequence[Sequence[float]]]
CELL = 200
PANELS = 2
VIEWS = (-20.0, 50.0, 180.0)
RENDERED: dict[str, pictures.Background] = {
    "creature": "painted", "mug": "plain", "mushroom": "noisy", "fish": "painted",
    "leaf": "plain", "ring": "noisy", "vase": "painted", "hugger": "plain", "star": "noisy",
    "pear": "plain", "chair": "painted", "biscuit": "plain", "crab": "plain", "drummer": "painted",
}  # fmt: skip


def subjects() -> Iterator[tuple[str, Bytes, Outlines]]:
    """Yield names, pictures (h, w, 4), and the outlines of what lies in front of the body."""
    with Image.open(ROOT / "devstack" / "samples" / "duck.png") as duck:
        yield "duck", np.asarray(duck.convert("RGBA")), []
    for name in drawings.DRAWINGS:
        yield name, drawings.draw(name), []
    for name, background in RENDERED.items():
        truth = sets.make(name)
        yield name, pictures.take(truth, background), pictures.outlines(truth, background)


def strip(rgba: Bytes, layers: Outlines) -> Bytes:
    """Return the picture with its layers outlined, the model from three sides, and in clay."""
    parameters = Parameters(image_path="x", layers=layers)
    subject = cut_out(rgba, hints=parameters.hints, seed=0, max_side=1024)
    shape = model.make_shape(subject, parameters)
    studio = Studio(shape.mesh)
    look = textured(model.make_texture(shape, parameters), model.ROUGHNESS)
    views = [studio.render(look, azimuth=side, elevation=10.0, size=CELL) for side in VIEWS]
    views.append(studio.render(clay(), azimuth=30.0, elevation=10.0, size=CELL))
    given = cv2.resize(rgba[..., :3], (CELL, CELL), interpolation=cv2.INTER_AREA)
    corners = [np.rint(np.array(outline) * CELL).astype(np.int32) for outline in layers]
    cv2.polylines(given, corners, isClosed=True, color=(20, 20, 20), lineType=cv2.LINE_AA)
    return np.hstack([given, *views])


def main() -> None:
    """Write the contact sheet."""
    strips = []
    for name, rgba, layers in subjects():
        print(name, flush=True)
        strips.append(strip(rgba, layers))
    rows = -(-len(strips) // PANELS)
    strips += [np.full_like(strips[0], 255)] * (rows * PANELS - len(strips))
    panels = [np.vstack(strips[i * rows : (i + 1) * rows]) for i in range(PANELS)]
    gap = np.full((len(panels[0]), 16, 3), 255, np.uint8)
    sheet = np.hstack([panels[0], gap, panels[1]])
    folder = ROOT / "docs" / "gallery"
    folder.mkdir(exist_ok=True)
    Image.fromarray(sheet).save(folder / "inflate.jpg", quality=86, optimize=True)


if __name__ == "__main__":
    main()
