"""Score distillation against its formulas."""

import math

import pytest
import torch
from oracle_scene import Oracle, photograph

from worker_vm.pipelines.dreamfusion import cameras
from worker_vm.pipelines.dreamfusion.cameras import Shading, Views
from worker_vm.pipelines.dreamfusion.guidance import TimestepRange
from worker_vm.pipelines.dreamfusion.prompts import SIDES, side_shares


def some_views(count: int = 2) -> Views:
    return cameras.sample_views(
        count, size=8, shading=Shading.ALBEDO, generator=torch.Generator().manual_seed(3)
    )


def test_gradient_is_that_of_the_paper() -> None:
    """With an exact model the noise cancels: the gradient is alpha sigma (x - x*) / b."""
    oracle, views = Oracle(), some_views()
    oracle.timesteps = TimestepRange(0.3, 0.3, 0.3)
    alpha, sigma = oracle.schedule.alpha_sigma(torch.tensor([300, 300]))
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    oracle.loss(images, views, done=0.0, generator=torch.Generator().manual_seed(0)).backward()
    expected = alpha * sigma * (images - photograph(views)) / 2.0
    torch.testing.assert_close(images.grad, expected, atol=1e-5, rtol=1e-3)


def test_finished_picture_has_no_gradient() -> None:
    """Where the rendering is what the model knows, nothing moves."""
    oracle, views = Oracle(), some_views()
    images = photograph(views).requires_grad_(requires_grad=True)
    oracle.loss(images, views, done=0.5, generator=torch.Generator().manual_seed(0)).backward()
    assert images.grad is not None
    assert float(images.grad.abs().max()) < 1e-4


def test_schedule_keeps_the_variance() -> None:
    """Alpha² and sigma² add up to 1 at every timestep, and noise grows."""
    schedule = Oracle().schedule
    alpha, sigma = schedule.alpha_sigma(torch.arange(1000))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    assert bool((sigma.flatten().diff() > 0).all())


def test_large_noise_goes_first() -> None:
    """The upper end falls from the first to the last value; the lower stays."""
    timesteps = TimestepRange(0.02, 0.98, 0.5)
    assert timesteps.at(0.0, 1000) == (20, 980)
    assert timesteps.at(0.5, 1000) == (20, 740)
    assert timesteps.at(1.0, 1000) == (20, 500)
    assert TimestepRange(1.0, 1.0, 1.0).at(0.0, 1000) == (999, 999)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "side"),
    [(0, 0, 0), (90, 0, 1), (-90, 10, 1), (180, 0, 2), (0, 85, 3), (123, 75, 3)],
)
def test_each_side_has_its_prompt(azimuth: float, elevation: float, side: int) -> None:
    """Straight on, one prompt counts alone."""
    shares = side_shares(
        torch.tensor([math.radians(azimuth)]), torch.tensor([math.radians(elevation)])
    )
    assert float(shares[0, side]) == pytest.approx(1.0, abs=1e-6)


def test_sides_blend_and_add_up() -> None:
    """Between two sides both count, and all shares make one."""
    shares = side_shares(torch.linspace(-4.0, 4.0, 50), torch.linspace(-0.2, 1.4, 50))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(50))
    assert shares.shape == (50, len(SIDES))
    half = side_shares(torch.tensor([math.pi / 4.0]), torch.zeros(1))[0]
    assert half.tolist() == pytest.approx([0.5, 0.5, 0.0, 0.0], abs=1e-6)
