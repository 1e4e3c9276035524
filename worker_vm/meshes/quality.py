"""What a person wants to know about a 3D result before using it: `quality.json`."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from worker_vm.meshes.contents import Contents, Floats, Surface
from worker_vm.meshes.crossings import Crossings, find_crossings
from worker_vm.meshes.texel_use import TexelUse, measure_texels
from worker_vm.meshes.topology import Topology, analyse
from worker_vm.meshes.validator import Verdict

_DIGITS = 6
_FLAT = 1e-9
"""Share of its box that a body has to fill at least."""
_USES = {
    "base_color": "base_color_texture",
    "metallic_roughness": "metallic_roughness_texture",
    "normal": "normal_texture",
}


@dataclass(frozen=True)
class Quality:
    """The facts about one file, which is valid: one that isn't never gets so far."""

    contents: Contents
    topology: Topology
    crossings: Crossings
    texels: TexelUse | None
    verdict: Verdict

    @property
    def why_not_printable(self) -> list[str]:
        """What a printer's software would stumble over, as sentences; empty if nothing."""
        shape = self.topology
        found = []
        if shape.open_edges:
            found.append(f"It is not closed (edges with only one face: {shape.open_edges}).")
        if shape.crowded_edges:
            found.append(f"More than two faces meet at an edge (edges: {shape.crowded_edges}).")
        if shape.turned_edges:
            found.append(
                "Neighbouring faces disagree about which side is out "
                f"(edges: {shape.turned_edges})."
            )
        if shape.inverted_bodies:
            found.append(f"Inside out: {shape.inverted_bodies} of its bodies ({shape.bodies}).")
        if self.crossings.found:
            found.append(
                "It goes through itself "
                f"(triangles: {self.crossings.found} of {self.crossings.tested} looked at)."
            )
        box = float(_extents(shape.points).prod())
        if abs(shape.volume) <= _FLAT * box or not box:
            found.append("It encloses no volume.")
        return found

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        shape, texels, reasons = self.topology, self.texels, self.why_not_printable
        width, height, depth = (round(float(side), _DIGITS) for side in _extents(shape.points))
        return {
            "valid": True,
            "validator": asdict(self.verdict),
            "triangles": len(self.contents.faces),
            "degenerate_triangles": shape.degenerate_faces,
            "vertices": len(self.contents.positions),
            "vertices_without_seams": len(shape.points),
            "watertight": shape.watertight,
            "open_edges": shape.open_edges,
            "crowded_edges": shape.crowded_edges,
            "turned_edges": shape.turned_edges,
            "bodies": shape.bodies,
            "inverted_bodies": shape.inverted_bodies,
            "self_intersections": asdict(self.crossings),
            "printable": not reasons,
            "not_printable_because": reasons,
            "extents": {"width_x": width, "height_y": height, "depth_z": depth, "unit": "m"},
            "volume_m3": round(shape.volume, _DIGITS) if shape.watertight else None,
            "axes": {"up": "+Y", "front": "+Z"},
            "textures": self._textures(),
            "uv": None
            if texels is None
            else {name: round(value, _DIGITS) for name, value in asdict(texels).items()},
        }

    def _textures(self) -> list[dict[str, Any]]:
        uses: dict[int, set[str]] = {}
        for part in self.contents.parts:
            for use, number in _textures_of(part.surface).items():
                uses.setdefault(number, set()).add(use)
        return [
            {
                "used_for": sorted(uses.get(number, ())),
                "width": texture.width,
                "height": texture.height,
                "media_type": texture.media_type,
                "bytes": len(texture.data),
            }
            for number, texture in enumerate(self.contents.textures)
        ]


def assess(contents: Contents, verdict: Verdict) -> Quality:
    """Look at a file's contents from all sides; half a second for 40 000 triangles at most."""
    topology = analyse(contents.positions, contents.faces)
    return Quality(
        contents=contents,
        topology=topology,
        crossings=find_crossings(topology.points, topology.faces),
        texels=measure_texels(contents),
        verdict=verdict,
    )


def _extents(points: Floats) -> Floats:
    return np.asarray(points.max(axis=0) - points.min(axis=0))


def _textures_of(surface: Surface) -> dict[str, int]:
    found = {use: getattr(surface, name) for use, name in _USES.items()}
    return {use: number for use, number in found.items() if number is not None}
