"""Cut-outs that can be trusted, and those that are refused with advice."""

import cv2
import numpy as np
import pytest
from drawn_pictures import (
    Bytes,
    ball,
    cut_free,
    figure,
    frame,
    ring,
    scaled,
    scene,
    two_balls,
)

from worker_vm.cutout import Hints, Subject, cut_out
from worker_vm.pipelines.base import PipelineError


def opaque(rgb: Bytes) -> Bytes:
    return cut_free(rgb, np.full(rgb.shape[:2], 255))


def cut(rgba: Bytes, **options: object) -> Subject:
    given = {name: options.pop(name) for name in ("seed", "max_side") if name in options}
    return cut_out(rgba, hints=Hints(**options), **{"seed": 0, "max_side": 512, **given})


def refused(rgba: Bytes, **options: object) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        cut(rgba, **options)
    assert caught.value.permanent
    assert "transparen" in caught.value.message or "`box`" in caught.value.message
    return caught.value


def noise(size: int = 300) -> Bytes:
    return np.random.default_rng(1).integers(0, 256, (size, size, 3)).astype(np.uint8)


def gradient() -> Bytes:
    y, x = np.mgrid[:300, :300]
    return np.stack([x * 0.8, y * 0.8, x * 0 + 90], axis=2).astype(np.uint8)


def transparent(share: float) -> Bytes:
    """A disc that covers a share of the picture, cut free."""
    y, x = np.mgrid[:300, :300] / 300
    inside = np.hypot(x - 0.5, y - 0.5) < np.sqrt(share / np.pi)
    return cut_free(scene(ball, size=300), np.where(inside, 255, 0))


@pytest.mark.parametrize(("draw", "share"), [(ball, 0.283), (figure, 0.153), (ring, 0.264)])
def test_drawn_subjects_are_found(draw, share: float) -> None:
    """The subject's share of the picture is found to within a twentieth."""
    subject = cut(opaque(scene(draw)))
    assert subject.quality.source == "automatic"
    assert subject.quality.share == pytest.approx(share, rel=0.05)


def test_outline_is_exact() -> None:
    """The refined outline of a disc is off by less than a pixel on average."""
    subject = cut(opaque(scene(ball, size=500)))
    area = float((subject.alpha > 0.5).sum())
    assert np.sqrt(area / np.pi) == pytest.approx(150, abs=1.0)


def test_alpha_is_believed() -> None:
    """A meaningful alpha channel decides, whatever the colours say."""
    rgba = transparent(0.1)
    subject = cut(rgba)
    assert subject.quality.source == "alpha"
    assert subject.quality.share == pytest.approx(0.1, rel=0.03)


def test_opaque_alpha_is_ignored() -> None:
    """A PNG whose alpha is 255 everywhere is cut out by its colours."""
    assert cut(opaque(scene(ball))).quality.source == "automatic"


def test_specks_and_small_holes_go() -> None:
    """Dust in the alpha channel is dropped and pinholes are filled."""
    rgba = transparent(0.2)
    rgba[20:23, 20:23, 3] = 255
    rgba[150:153, 150:153, 3] = 0
    alpha = cut(rgba).alpha
    rows, cols = np.nonzero(alpha > 0.5)
    assert len(rows) == pytest.approx(np.pi / 4 * (np.ptp(rows) + 1) * (np.ptp(cols) + 1), rel=0.03)


def test_tiny_subject_in_a_large_picture() -> None:
    """A subject of a two-hundredth of the picture is found, and cropped to."""

    def draw(canvas: Bytes) -> None:
        (centre,) = scaled(canvas, (0.7, 0.6))
        cv2.circle(canvas, centre, round(0.04 * len(canvas)), (30, 110, 60), -1)

    subject = cut(opaque(scene(draw, size=1200)))
    assert subject.quality.share == pytest.approx(np.pi * 0.04**2, rel=0.2)
    assert (subject.alpha > 0.5).mean() > 0.35


def test_box_picks_one_of_two() -> None:
    """Two things are refused, and with a box about one of them it is taken."""
    rgba = opaque(scene(two_balls))
    assert refused(rgba).code == "CUTOUT_IN_PIECES"
    subject = cut(rgba, box=(0.08, 0.3, 0.48, 0.7))
    middle = subject.rgb[tuple(side // 2 for side in subject.alpha.shape)]
    assert middle[0] > middle[2] + 100


def test_box_restricts_alpha() -> None:
    """A box also picks from a transparent picture."""
    rgb = scene(two_balls)
    alpha = np.where(np.ptp(rgb.astype(int), axis=2) > 60, 255, 0)
    subject = cut(cut_free(rgb, alpha), box=(0.5, 0.2, 1.0, 0.8))
    middle = subject.rgb[tuple(side // 2 for side in subject.alpha.shape)]
    assert middle[2] > middle[0] + 100


def test_point_picks_one_of_two() -> None:
    """A point on one of two things chooses it, in an opaque and in a transparent picture."""
    rgb = scene(two_balls)
    alpha = np.where(np.ptp(rgb.astype(int), axis=2) > 60, 255, 0)
    for rgba in (opaque(rgb), cut_free(rgb, alpha)):
        subject = cut(rgba, points=((0.72, 0.5),))
        middle = subject.rgb[tuple(side // 2 for side in subject.alpha.shape)]
        assert middle[2] > middle[0] + 100
        assert subject.quality.share == pytest.approx(np.pi * 0.14**2, rel=0.1)


def test_point_beside_the_subject() -> None:
    """A point on a transparent place is refused with what points are."""
    with pytest.raises(PipelineError) as caught:
        cut(transparent(0.1), points=((0.05, 0.05),))
    assert caught.value.code == "CUTOUT_POINTS_MISSED"
    assert caught.value.permanent
    assert "fractions" in caught.value.message


def test_background_point_takes_a_part_away() -> None:
    """A part that is pointed out as background is not in the cut-out."""
    rgba = opaque(scene(figure))
    whole = cut(rgba).quality.share
    less = cut(rgba, points=((0.5, 0.4),), background_points=((0.75, 0.76),)).quality.share
    assert less < 0.85 * whole


def test_pale_stripes_on_pale_paper() -> None:
    """Stripes in nearly the paper's colour, between others, stay part of the subject."""

    def draw(canvas: Bytes) -> None:
        for number in range(5):
            a, b = scaled(canvas, (0.3, 0.2 + 0.1 * number), (0.7, 0.3 + 0.1 * number))
            cv2.rectangle(canvas, a, b, ((40, 90, 170), (240, 236, 226))[number % 2], -1)

    subject = cut(opaque(scene(draw)))
    assert subject.quality.share == pytest.approx(0.2, rel=0.06)


def test_subject_on_a_blotchy_ground() -> None:
    """A ball off the middle of a blotchy, grainy ground is found."""
    random = np.random.default_rng(3)
    blotches = cv2.GaussianBlur(random.normal(0, 1, (640, 640, 3)), (0, 0), 14)
    ground = np.clip(128 + 16 * blotches / blotches.std(), 0, 255).astype(np.uint8)

    def draw(canvas: Bytes) -> None:
        canvas[:] = ground
        (centre,) = scaled(canvas, (0.6, 0.42))
        cv2.circle(canvas, centre, round(0.22 * len(canvas)), (80, 165, 170), -1)

    subject = cut(opaque(scene(draw, noise=8)))
    assert subject.quality.share == pytest.approx(np.pi * 0.22**2, rel=0.06)


def test_score_is_told() -> None:
    """The winner's score is the highest of all that were tried, with its marks."""
    quality = cut(opaque(scene(figure))).quality
    assert quality.score == max(quality.tried.values())
    assert quality.tried[quality.seed] == quality.score
    assert 0.2 < quality.score <= 1.0
    assert all(0.0 <= quality.marks[name] <= 1.0 for name in ("edge", "colour", "whole"))
    assert cut(transparent(0.1)).quality.score == 1.0


@pytest.mark.parametrize(
    ("rgba", "code"),
    [
        (transparent(0.0), "CUTOUT_EMPTY"),
        (opaque(np.full((200, 300, 3), 128, np.uint8)), "CUTOUT_EMPTY"),
        (transparent(1.2), "CUTOUT_FULL"),
        (opaque(scene(frame)), "CUTOUT_EMPTY"),
    ],
)
def test_nothing_to_cut(rgba: Bytes, code: str) -> None:
    """Empty, plain and filled pictures are refused by name."""
    assert refused(rgba).code == code


def test_subject_that_runs_into_the_border() -> None:
    """A cut-out that fills three sides of the border is refused."""
    rgba = opaque(scene(frame))
    rgba[:90, :, 3] = 0
    assert refused(rgba).code == "CUTOUT_TOUCHES_BORDER"


def test_alpha_in_pieces() -> None:
    """Two pieces in the alpha channel are two things."""
    rgb = scene(two_balls)
    alpha = np.where(np.ptp(rgb.astype(int), axis=2) > 60, 255, 0)
    assert refused(cut_free(rgb, alpha)).code == "CUTOUT_IN_PIECES"


@pytest.mark.parametrize("rgb", [noise(), gradient()])
def test_no_subject_at_all(rgb: Bytes) -> None:
    """Noise and gradients give no cut-out, by one code or the other."""
    assert refused(opaque(rgb)).code.startswith("CUTOUT_")


def test_soft_glow_is_no_subject() -> None:
    """A glow without an edge is refused as unreliable."""
    y, x = np.mgrid[:300, :400]
    glow = np.clip(255 - np.hypot(x - 200, y - 150) / 1.2, 0, 255)
    error = refused(opaque(glow[..., None].repeat(3, axis=2).astype(np.uint8)))
    assert error.code == "CUTOUT_UNRELIABLE"


def test_very_wide_picture() -> None:
    """A picture twenty times as wide as high is cut out like any other."""
    rgb = np.full((120, 2400, 3), 230, np.uint8)
    rgb[40:80, 700:1700] = (200, 30, 30)
    assert cut(opaque(rgb)).quality.share == pytest.approx(40 / 120 * 1000 / 2400, rel=0.1)


def test_flat_colours_do_not_take_for_ever() -> None:
    """A perfectly flat checkerboard, which stalls plain GrabCut, is answered."""
    tiles = (np.indices((10, 10)).sum(axis=0) % 2).repeat(40, axis=0).repeat(40, axis=1)
    rgb = (tiles[..., None] * 200 + 30).repeat(3, axis=2).astype(np.uint8)
    assert refused(opaque(rgb)).code.startswith("CUTOUT_")


def test_same_seed_same_cutout() -> None:
    """The same picture and seed give the same pixels."""
    rgba = opaque(scene(figure))
    first, second = cut(rgba, seed=3), cut(rgba, seed=3)
    assert np.array_equal(first.alpha, second.alpha)
