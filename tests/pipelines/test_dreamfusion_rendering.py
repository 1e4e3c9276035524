"""The renderer against what can be worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from worker_vm.pipelines.dreamfusion import cameras, volume
from worker_vm.pipelines.dreamfusion.cameras import Shading, Views
from worker_vm.pipelines.dreamfusion.field import (
    GridField,
    Lattice,
    density,
    level_sides,
    raw_of,
)
from worker_vm.rendering.camera import Camera

CPU = torch.device("cpu")


def one_view(
    azimuth: float = 0.0, elevation: float = 0.0, size: int = 33, distance: float = 3.0
) -> Views:
    angles = torch.deg2rad(torch.tensor([azimuth, elevation, 40.0]))
    return cameras.look_from(
        angles[0:1], angles[1:2], torch.tensor([distance]), angles[2:3], size=size
    )


def filled(raw_density: float, colour: float = 0.0, side: int = 9) -> Lattice:
    values = torch.full((1, 4, side, side, side), colour)
    values[:, 0] = raw_density
    return Lattice(values)


def ramp_ball(side: int = 65, radius: float = 0.5, steepness: float = 40.0) -> Lattice:
    """A ball: its raw density falls from the middle outwards."""
    steps = torch.linspace(-1.0, 1.0, side)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    values = torch.zeros(1, 4, side, side, side)
    values[0, 0] = steepness * (radius - (x * x + y * y + z * z).sqrt())
    return Lattice(values)


@pytest.mark.parametrize("wanted", [0.3, 1.0, 4.0])
def test_even_fog_absorbs_exponentially(wanted: float) -> None:
    """Through a ball of constant density each pixel's opacity is 1 - exp(-density chord)."""
    views = one_view()
    seen = volume.render(filled(raw_of(wanted)), views, samples=7)
    origins, directions = (part.reshape(-1, 3) for part in views.rays())
    near, far = volume.ball_chord(origins, directions)
    expected = 1.0 - torch.exp(-wanted * (far - near))
    torch.testing.assert_close(seen.opacity.reshape(-1), expected, atol=1e-5, rtol=1e-4)


def test_colours_mix_with_the_background() -> None:
    """A pixel is the colour by opacity, and the background by what is left."""
    views = replace(one_view(), background=torch.tensor([[1.0, 0.5, 0.0]]))
    seen = volume.render(filled(raw_of(0.8), colour=math.log(3.0)), views, samples=16)
    cover = seen.opacity[:, None]
    expected = 0.75 * cover + views.background[:, :, None, None] * (1.0 - cover)
    torch.testing.assert_close(seen.images, expected)


def test_weights_follow_the_closed_form() -> None:
    """Each sample's weight is its own absorption by what all before it let through."""
    sigma = torch.tensor([[0.5, 2.0, 0.1, 9.0]], dtype=torch.float64)
    gap = torch.tensor([[0.4]], dtype=torch.float64)
    alpha = 1.0 - torch.exp(-sigma * 0.4)
    left = torch.cumprod(torch.cat([torch.ones(1, 1), 1.0 - alpha[:, :-1]], dim=1), dim=1)
    torch.testing.assert_close(volume.ray_weights(sigma, gap), alpha * left)


def test_weights_have_the_right_gradient() -> None:
    """Automatic and numeric derivatives agree, also where hardly anything is left."""
    sigma = torch.tensor([[0.5, 2.0, 30.0, 1.0]], dtype=torch.float64, requires_grad=True)
    gap = torch.tensor([[0.4]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda value: volume.ray_weights(value, gap), sigma)


@pytest.mark.parametrize("shading", list(Shading))
def test_pictures_have_the_right_gradient(shading: Shading) -> None:
    """A change of the field along the gradient changes the picture as the gradient says."""
    torch.manual_seed(1)
    values = ramp_ball(side=9, steepness=4.0).values + 0.1 * torch.randn(1, 4, 9, 9, 9)
    views = replace(one_view(20.0, 10.0, size=8), shading=shading)
    weights = torch.rand(1, 3, 8, 8)

    def brightness(field: torch.Tensor) -> torch.Tensor:
        return (volume.render(Lattice(field), views, samples=24).images * weights).sum()

    leaf = values.clone().requires_grad_(requires_grad=True)
    (gradient,) = torch.autograd.grad(brightness(leaf), leaf)
    way = gradient / gradient.norm()
    step = 1e-2
    numeric = (brightness(values + step * way) - brightness(values - step * way)) / (2.0 * step)
    assert float(numeric) == pytest.approx(float(gradient.norm()), rel=0.02)


def test_normals_point_outwards() -> None:
    """A ball's normals are its radii."""
    points = torch.nn.functional.normalize(torch.randn(200, 3), dim=1) * 0.5
    _, _, normals = ramp_ball().sample(points, slopes=True)
    assert normals is not None
    assert float((normals * points).sum(dim=1).min()) > 0.5 * 0.99


def test_light_from_the_camera_makes_the_middle_brightest() -> None:
    """A white ball lit from the eye: all light in the middle, less towards the rim."""
    views = replace(one_view(size=65), shading=Shading.TEXTURELESS, background=torch.zeros(1, 3))
    picture = volume.render(ramp_ball(steepness=200.0), views, samples=192).images[0, 0]
    assert float(picture[32, 32]) == pytest.approx(1.0, abs=0.03)
    # Halfway out the ball's normal is at 30 degrees to the middle's.
    focal, reach = float(views.focal[0]), 0.25
    column = round(32 + 32.5 * focal * reach / (3.0 - 0.5 * math.cos(math.pi / 6.0)))
    to_light = np.array([-reach, 0.0, 3.0 - 0.5 * math.cos(math.pi / 6.0)])
    facing = np.array([0.5, 0.0, math.cos(math.pi / 6.0)]) @ to_light / np.linalg.norm(to_light)
    assert float(picture[32, column]) == pytest.approx(0.1 + 0.9 * facing, abs=0.05)


def test_nothing_solid_faces_away() -> None:
    """The orientation loss is near nothing for a ball, and large for a ball turned inside out."""
    views = replace(one_view(), shading=Shading.LAMBERT)
    ball = ramp_ball(steepness=200.0)
    hollow = Lattice(torch.cat([-ball.values[:, :1] - 60.0, ball.values[:, 1:]], dim=1))
    assert float(volume.render(ball, views, samples=96).backfacing) < 0.01
    assert float(volume.render(hollow, views, samples=96).backfacing) > 0.1


def test_rays_that_miss_see_the_background() -> None:
    """Outside of the unit ball there is nothing, whatever the grid's corners hold."""
    views = one_view(distance=6.0)
    seen = volume.render(filled(9.0), views, samples=8)
    assert seen.opacity[0, 0, 0] == 0.0
    assert torch.equal(seen.images[0, :, 0, 0], torch.ones(3))
    assert seen.opacity[0, 16, 16] > 0.99


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (35, 10), (190, -5), (300, 70)])
def test_cameras_agree_with_those_of_the_previews(azimuth: float, elevation: float) -> None:
    """Both put a point at the same place of the picture's axes."""
    views = one_view(azimuth, elevation)
    other = Camera(np.zeros(3), math.radians(azimuth), math.radians(elevation), 3.0)
    np.testing.assert_allclose(views.basis[0].numpy(), other.basis, atol=1e-6)
    np.testing.assert_allclose(views.eyes[0].numpy(), other.basis[2] * 3.0, atol=1e-6)


def test_rays_run_as_the_picture_does() -> None:
    """Right in the picture is right of the camera, up is up, and the middle looks at the middle."""
    views = one_view(90.0)
    _, directions = views.rays()
    assert directions[0, 16, 16].tolist() == pytest.approx([-1.0, 0.0, 0.0], abs=1e-6)
    assert directions[0, 16, 32, 2] < -0.1
    assert directions[0, 0, 16, 1] > 0.1


def test_random_views_stay_in_their_ranges() -> None:
    """Views are repeatable, even about the object, and never from below."""
    drawn = [
        cameras.sample_views(
            4, size=8, shading=Shading.LAMBERT, generator=torch.Generator().manual_seed(seed)
        )
        for seed in [*range(200), 0]
    ]
    assert torch.equal(drawn[0].eyes, drawn[-1].eyes)
    elevation = torch.cat([views.elevation for views in drawn]).rad2deg()
    azimuth = torch.cat([views.azimuth for views in drawn])
    assert float(elevation.min()) >= -10.01
    assert 0.05 < float((elevation > 60.0).float().mean()) < 0.2
    assert float(torch.cos(azimuth).mean().abs()) < 0.05
    distance = torch.cat([views.lights for views in drawn]).norm(dim=1)
    assert float(distance.min()) > 1.5


def test_pyramid_halves_down_to_a_coarse_grid() -> None:
    """Whatever the resolution, the coarsest grid is coarse, and the finest as asked for."""
    for side in (64, 96, 128, 160):
        sides = level_sides(side)
        assert sides[-1] == side
        assert 16 <= sides[0] < 32


def test_field_starts_as_a_soft_ball() -> None:
    """Denser in the middle than at the rim, which is all but empty."""
    lattice = GridField(64, CPU).lattice()
    middle, rim = lattice.sample(torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.0, 0.0]]))[0].detach()
    assert float(middle) > 20.0
    assert float(rim) < 1.0
    assert float(density(torch.tensor(raw_of(6.0)))) == pytest.approx(6.0)
