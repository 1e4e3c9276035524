"""A flat base, so that the model stands."""

from dataclasses import replace

import manifold3d
import numpy as np

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate.balloon import Balloon, from_manifold, to_manifold
from worker_vm.pipelines.inflate.topology import is_one_closed_body

_LEVEL = 1e-3  # cells


def flattened(balloon: Balloon, share: float) -> Balloon:
    """Cut off the lowest part of a balloon and close it with a flat face.

    Args:
        balloon: closed.
        share: of its height that goes.

    Raises:
        PipelineError: BASE_TOO_THIN, it would fall into pieces or end in a line.
    """
    y = balloon.points[:, 1]
    floor = float(y.max() - share * (y.max() - y.min()))
    if share <= 0.0:
        return balloon
    solid, first = to_manifold(balloon)
    solid = solid.trim_by_plane((0.0, -1.0, 0.0), -floor)
    if solid.is_empty() or solid.status() != manifold3d.Error.NoError:
        raise _too_thin()
    cut = from_manifold(solid, first)
    patches = [cut.front, cut.back, cut.layers]
    level = [(np.abs(cut.points[p][..., 1] - floor) < _LEVEL).all(axis=1) for p in patches]
    front, back, layers = (p[~flat] for p, flat in zip(patches, level, strict=True))
    base = np.vstack([p[flat] for p, flat in zip(patches, level, strict=True)])
    result = replace(cut, front=front, back=back, layers=layers, base=base)
    if not len(base) or not is_one_closed_body(result.faces):
        raise _too_thin()
    return result


def _too_thin() -> PipelineError:
    return PipelineError(
        "BASE_TOO_THIN",
        "No flat base can be cut: the subject would fall apart there; lower `flat_base`.",
        permanent=True,
    )
