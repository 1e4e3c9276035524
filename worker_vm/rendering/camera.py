"""Where a view is seen from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FIELD_OF_VIEW = np.deg2rad(26.0)


@dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at a target; +Y is up."""

    target: Array
    """(3,)"""
    azimuth: float
    """radians about +Y; 0 looks at the front (+Z), positive sees the +X side"""
    elevation: float
    """radians above the horizon"""
    distance: float

    @property
    def basis(self) -> Array:
        """Rows: right, up and back (from the target to the camera), unit vectors."""
        ca, sa = np.cos(self.azimuth), np.sin(self.azimuth)
        ce, se = np.cos(self.elevation), np.sin(self.elevation)
        return np.array([[ca, 0.0, -sa], [-sa * se, ce, -ca * se], [sa * ce, se, ca * ce]])

    def to_view(self, points: Array) -> Array:
        """Return points (n, 3) in the camera's axes, relative to the target."""
        return np.asarray((points - self.target) @ self.basis.T)

    def project(self, points: Array, size: int) -> Array:
        """Return x and y in pixels (y down) and the inverse depth, (n, 3), on a square picture."""
        view = self.to_view(points)
        inverse = 1.0 / (self.distance - view[:, 2])
        focal = size / (2.0 * np.tan(FIELD_OF_VIEW / 2.0))
        x = size / 2.0 + focal * view[:, 0] * inverse
        y = size / 2.0 - focal * view[:, 1] * inverse
        return np.stack([x, y, inverse], axis=1)


def fitting_distance(
    points: Array, target: Array, angles: list[tuple[float, float]], fill: float
) -> float:
    """Return the least distance from which all points fit into each of the views.

    Args:
        points: (n, 3)
        target: what is looked at.
        angles: azimuth and elevation of each view, radians.
        fill: share of half the picture's side that may be used.
    """
    reach = np.tan(FIELD_OF_VIEW / 2.0) * fill
    needed = 0.0
    for azimuth, elevation in angles:
        view = Camera(target, azimuth, elevation, 1.0).to_view(points)
        side = np.maximum(np.abs(view[:, 0]), np.abs(view[:, 1]))
        needed = max(needed, float((side / reach + view[:, 2]).max()))
    return needed
