"""What is said of a mesh, on meshes whose faults are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mesh_makers import (
    apart,
    glb_of,
    moved,
    picture,
    put_together,
    sphere,
    take_apart,
    tiles,
    together,
    turned_inside_out,
)

from worker_vm.meshes.crossings import find_crossings
from worker_vm.meshes.glb_reader import read_glb
from worker_vm.meshes.quality import assess
from worker_vm.meshes.topology import analyse
from worker_vm.meshes.validator import Verdict

Describe = Callable[..., dict[str, Any]]


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """Write a mesh as a GLB and say what it is."""

    def run(mesh: tuple[np.ndarray, np.ndarray], **more: Any) -> dict[str, Any]:
        contents = read_glb(glb_of(tmp_path / "model.glb", mesh, **more))
        return assess(contents, Verdict(checked=False)).document()

    return run


def test_a_good_mesh(describe: Describe) -> None:
    """A ball is closed, one body, of its true size and volume, and printable."""
    found = describe(sphere())
    assert found["watertight"] is True
    assert found["printable"] is True
    assert found["not_printable_because"] == []
    assert found["triangles"] == 4 * 24 * 23
    assert (found["bodies"], found["inverted_bodies"], found["degenerate_triangles"]) == (1, 0, 0)
    assert found["self_intersections"] == {"tested": 4 * 24 * 23, "found": 0}
    assert found["extents"] == {"width_x": 1.0, "height_y": 1.0, "depth_z": 1.0, "unit": "m"}
    assert found["volume_m3"] == pytest.approx(np.pi / 6, rel=0.01)
    assert found["axes"] == {"up": "+Y", "front": "+Z"}
    (texture,) = found["textures"]
    assert texture["used_for"] == ["base_color"]
    assert (texture["width"], texture["height"]) == (64, 64)
    assert (texture["media_type"], texture["bytes"]) == ("image/png", len(picture()))


def test_seams_are_merged(describe: Describe) -> None:
    """A ball whose triangles share no point is still one closed body."""
    whole = sphere()
    found = describe(apart(whole))
    assert found["watertight"] is True
    assert found["bodies"] == 1
    assert found["vertices"] == whole[1].size
    assert found["vertices_without_seams"] == len(whole[0])


@pytest.mark.parametrize("missing", [1, 7])
def test_a_hole(describe: Describe, missing: int) -> None:
    """Triangles that are missing leave open edges, and are the reason not to print."""
    points, faces = sphere()
    found = describe((points, np.delete(faces, np.arange(missing) * 60, axis=0)))
    assert found["watertight"] is False
    assert found["open_edges"] == 3 * missing
    assert found["volume_m3"] is None
    assert found["printable"] is False
    assert found["not_printable_because"] == [
        f"It is not closed (edges with only one face: {3 * missing})."
    ]


def test_an_inside_out_body(describe: Describe) -> None:
    """A body with all faces the wrong way round is closed, and inside out."""
    found = describe(turned_inside_out(sphere()))
    assert found["watertight"] is True
    assert found["inverted_bodies"] == 1
    assert found["not_printable_because"] == ["Inside out: 1 of its bodies (1)."]


def test_one_of_two_bodies_is_inside_out(describe: Describe) -> None:
    """It is found beside a good one, too."""
    small = sphere(12, 0.2)
    found = describe(together(moved(small, -0.3), turned_inside_out(moved(small, 0.3))))
    assert (found["bodies"], found["inverted_bodies"]) == (2, 1)
    assert found["printable"] is False


def test_a_hollow_is_no_fault(describe: Describe) -> None:
    """A body that is inside out within another one is its hollow."""
    found = describe(together(sphere(), turned_inside_out(sphere(12, 0.3))))
    assert (found["bodies"], found["inverted_bodies"]) == (2, 0)
    assert found["printable"] is True
    assert found["volume_m3"] == pytest.approx(np.pi / 6 * (1 - 0.6**3), rel=0.02)


def test_a_turned_face(describe: Describe) -> None:
    """One face wound the other way disagrees with its three neighbours."""
    points, faces = sphere()
    faces = faces.copy()
    faces[500] = faces[500, ::-1]
    found = describe((points, faces))
    assert found["turned_edges"] == 3
    assert found["watertight"] is True
    assert "disagree about which side is out (edges: 3)" in found["not_printable_because"][0]


def test_an_edge_with_three_faces(describe: Describe) -> None:
    """A fin on the surface shares an edge with two faces of it."""
    points, faces = sphere()
    fin = [*faces[500, :2], len(points)]
    found = describe((np.vstack([points, points[faces[500, 0]] * 1.5]), np.vstack([faces, fin])))
    assert (found["crowded_edges"], found["open_edges"]) == (1, 2)
    assert "More than two faces meet at an edge (edges: 1)." in found["not_printable_because"]


def test_bodies_that_go_through_each_other(describe: Describe) -> None:
    """Two balls that overlap cross along a circle; two that lie apart don't."""
    small = sphere(12, 0.25)
    found = describe(together(moved(small, -0.15), moved(small, 0.171)))
    assert found["watertight"] is True
    assert found["self_intersections"]["found"] > 20
    assert "goes through itself" in found["not_printable_because"][0]
    clear = describe(together(moved(small, -0.3), moved(small, 0.3)))
    assert clear["self_intersections"]["found"] == 0
    assert clear["bodies"] == 2
    assert clear["printable"] is True


def test_crossings_agree_with_every_pair() -> None:
    """The grid loses no pair: on triangles of all sizes it finds what trying all pairs finds."""
    random = np.random.default_rng(3)
    size = 10 ** random.uniform(-2, 0, (150, 1, 1))
    corners = random.uniform(-1, 1, (150, 1, 3)) + size * random.normal(size=(150, 3, 3))
    points, faces = corners.reshape(-1, 3), np.arange(450).reshape(-1, 3)
    pairs = {
        (one, other)
        for one in range(150)
        for other in range(one)
        if crosses(corners[one], corners[other]) or crosses(corners[other], corners[one])
    }
    wanted = {face for pair in pairs for face in pair}
    assert 20 < len(wanted) < 140
    assert find_crossings(points, faces).found == len(wanted)


def crosses(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether an edge of one triangle goes through the other, by the signs of volumes."""

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> float:
        return float(np.sign(np.dot(np.cross(b - a, c - a), d - a)))

    for start, end in ((0, 1), (1, 2), (2, 0)):
        p, q = one[start], one[end]
        if side(*other, p) == side(*other, q):
            continue
        turns = [side(p, q, other[i], other[(i + 1) % 3]) for i in range(3)]
        if len(set(turns)) == 1:
            return True
    return False


def test_crossings_are_sampled() -> None:
    """Of more triangles than may be tested, some of each region are."""
    points, faces = together(moved(sphere(40), -0.2), moved(sphere(40), 0.21))
    every, some = find_crossings(points, faces), find_crossings(points, faces, most=1500)
    assert (every.tested, some.tested) == (len(faces), 1500)
    share = every.found / every.tested
    assert some.found / some.tested == pytest.approx(share, rel=0.3)


def test_a_flat_mesh_has_no_volume(describe: Describe) -> None:
    """A sheet with two sides is closed, and nothing to print."""
    points = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0, 0.5, 0]])
    found = describe((points, np.array([[0, 1, 2], [0, 2, 1]])))
    assert found["watertight"] is True
    assert found["not_printable_because"] == ["It encloses no volume."]


def test_degenerate_triangles_are_counted(describe: Describe) -> None:
    """Triangles of fewer than three places are counted, and are no hole."""
    points, faces = sphere()
    found = describe((points, np.vstack([faces, [[4, 4, 9], [5, 5, 5]]])))
    assert found["degenerate_triangles"] == 2
    assert found["watertight"] is True


def test_only_degenerate_triangles() -> None:
    """A mesh of nothing else has no body and is not closed, and nothing is raised."""
    found = analyse(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    assert (found.bodies, found.watertight, found.degenerate_faces) == (0, False, 1)
    assert find_crossings(found.points, found.faces).tested == 0


def test_no_texture_area_is_shown_twice(describe: Describe) -> None:
    """Charts that lie side by side, or share an edge, don't overlap."""
    ball = apart(sphere(8))
    found = describe(ball, uvs=tiles(len(ball[1]), 16))
    assert found["uv"]["overlap"] == 0.0
    assert found["uv"]["outside"] == 0.0
    # Half of each square of 0.8 by 0.8; 224 of 256 squares are taken.
    assert found["uv"]["covered"] == pytest.approx(0.32 * 224 / 256, rel=0.02)


def test_neighbours_in_the_texture_share_no_texel(describe: Describe) -> None:
    """A sheet laid over all of its texture covers each texel once, whatever the grid."""
    side = np.linspace(0, 1, 38)
    u, v = (axis.ravel() for axis in np.meshgrid(side, side))
    corner = (np.arange(37)[:, None] * 38 + np.arange(37)).ravel()
    faces = np.vstack(
        [
            np.stack([corner, corner + 38, corner + 39], axis=1),
            np.stack([corner, corner + 39, corner + 1], axis=1),
        ]
    )
    points = np.stack([u - 0.5, 0.5 - v, np.zeros(len(u))], axis=1)
    found = describe((points, faces), uvs=np.stack([u, v], axis=1))
    assert found["uv"] == {"covered": 1.0, "overlap": 0.0, "outside": 0.0}


def test_overlapping_texture_coordinates(describe: Describe) -> None:
    """The share of the used texture that several triangles show, mirrored ones too."""
    ball = apart(sphere(8))
    count = len(ball[1])
    uvs = tiles(count, 16).reshape(count, 3, 2)
    uvs[:56] = uvs[56:112, ::-1]  # a quarter lies on the next one
    found = describe(ball, uvs=uvs.reshape(-1, 2))
    assert found["uv"]["overlap"] == pytest.approx(1 / 3, abs=0.01)


def test_texture_coordinates_outside(describe: Describe) -> None:
    """Triangles that reach out of the texture are counted."""
    ball = apart(sphere(8))
    uvs = tiles(len(ball[1]), 16).reshape(-1, 3, 2)
    uvs[:56] += 1.0
    assert describe(ball, uvs=uvs.reshape(-1, 2))["uv"]["outside"] == pytest.approx(0.25)


def test_nodes_place_and_mirror(tmp_path: Path) -> None:
    """A node's matrix counts: size and place are the world's, and a mirrored body is no fault."""
    path = glb_of(tmp_path / "model.glb", sphere())
    document, binary = take_apart(path)
    document["nodes"] = [
        {"children": [1, 2]},
        {"mesh": 0, "scale": [2, 1, 1]},
        {"mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 3, 0, 0, 1]},
    ]
    put_together(path, document, binary)
    contents = read_glb(path)
    found = assess(contents, Verdict(checked=False)).document()
    assert (found["bodies"], found["inverted_bodies"]) == (2, 0)
    assert found["extents"]["width_x"] == pytest.approx(4.5)
    assert found["volume_m3"] == pytest.approx(3 * np.pi / 6, rel=0.01)
    for part in contents.parts:
        middle = (part.positions.min(axis=0) + part.positions.max(axis=0)) / 2
        outwards = part.positions - middle
        assert (np.einsum("ij,ij->i", part.normals, outwards) > 0).all()
