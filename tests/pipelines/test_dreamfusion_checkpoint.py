"""Checkpoints: what a run goes on from, and what it does not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from oracle_scene import Oracle
from safetensors import safe_open
from safetensors.torch import save_file

from worker_vm.pipelines.dreamfusion import checkpoint
from worker_vm.pipelines.dreamfusion.checkpoint import UnusableCheckpointError
from worker_vm.pipelines.dreamfusion.distil import Distillation
from worker_vm.pipelines.dreamfusion.parameters import Parameters

CPU = torch.device("cpu")
MARK = "f" * 64
STEPS = 100


def distillation(**parameters: Any) -> Distillation:
    chosen = {"steps": STEPS, "grid_resolution": 64, "learning_rate": 0.1, **parameters}
    return Distillation(Parameters(**chosen), Oracle(), CPU)


@pytest.fixture(scope="module")
def begun() -> Distillation:
    made = distillation()
    for _ in range(6):
        made.advance()
    return made


@pytest.fixture
def saved(begun: Distillation, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, begun, MARK)
    return path


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def refuse(path: Path) -> str:
    """Why a checkpoint is not used; the run that refused it is untouched."""
    fresh, untouched = distillation(), distillation()
    with pytest.raises(UnusableCheckpointError) as caught:
        checkpoint.restore(path, fresh, MARK, STEPS)
    assert fresh.step == 0
    for ours, theirs in zip(fresh.field.levels, untouched.field.levels, strict=True):
        assert torch.equal(ours, theirs)
    return str(caught.value)


def test_next_steps_are_those_of_the_uninterrupted_run(saved: Path, begun: Distillation) -> None:
    """The same draws, the same moments up to their last digits: the fields stay together."""
    resumed, through = distillation(), distillation()
    checkpoint.restore(saved, resumed, MARK, STEPS)
    assert resumed.step == begun.step
    checkpoint.restore(saved, through, MARK, STEPS)
    for _ in range(3):
        resumed.advance()
        through.advance()
    for ours, theirs in zip(resumed.field.levels, through.field.levels, strict=True):
        assert torch.equal(ours, theirs)
    # Against one that never stopped, whose moments have more digits.
    never = distillation()
    for _ in range(9):
        never.advance()
    ours, theirs = resumed.lattice().values, never.lattice().values
    start = distillation().lattice().values
    assert float((ours - theirs).norm() / (theirs - start).norm()) < 0.05


def test_empty_file(tmp_path: Path) -> None:
    """A file with nothing in it is refused."""
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert "read" in refuse(path)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is refused."""
    assert "read" in refuse(tmp_path / "nothing")


def test_pickle(tmp_path: Path) -> None:
    """A pickle is not even looked at."""
    path = tmp_path / "pickle"
    torch.save({"level0": torch.zeros(3)}, path)
    assert "read" in refuse(path)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_cut_off(saved: Path, share: float) -> None:
    """A part of a checkpoint is refused."""
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    assert "read" in refuse(saved)


def test_too_large(saved: Path) -> None:
    """What has more than the run's own numbers is refused by its size alone."""
    tensors, metadata = parts(saved)
    save_file({**tensors, "more": torch.zeros(10**6)}, saved, metadata)
    assert refuse(saved) == "it is too large"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "other"}, "no checkpoint"),
        ({"fingerprint": "0" * 64}, "another prompt"),
        ({"step": "0"}, "step"),
        ({"step": "-5"}, "step"),
        ({"step": "101"}, "step"),
        ({"step": "²"}, "step"),
        ({"step": "1e1"}, "step"),
        ({"step": "9" * 5000}, "step"),
    ],
)
def test_other_metadata(saved: Path, change: dict[str, str], why: str) -> None:
    """Another pipeline's, another run's, or a step that makes no sense: refused."""
    tensors, metadata = parts(saved)
    save_file(tensors, saved, {**metadata, **change})
    assert why in refuse(saved)


def test_no_metadata(saved: Path) -> None:
    """Somebody else's tensors are refused."""
    tensors, _ = parts(saved)
    save_file(tensors, saved)
    assert "no checkpoint" in refuse(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"level0": torch.zeros(1, 4, 8, 8, 8)},
        {"level0": torch.full((1, 4, 16, 16, 16), torch.nan)},
        {"level1": torch.full((1, 4, 32, 32, 32), torch.inf)},
        {"level0": torch.zeros(1, 4, 16, 16, 16, dtype=torch.float16)},
        {"level0.square": torch.full((1, 4, 16, 16, 16), -1.0, dtype=torch.bfloat16)},
        {"level0.mean": torch.full((1, 4, 16, 16, 16), torch.nan, dtype=torch.bfloat16)},
        {"level0": None},
        {"level9": torch.zeros(3)},
    ],
)
def test_other_tensors(saved: Path, change: dict[str, torch.Tensor | None]) -> None:
    """Other names, shapes, kinds, or what is no number: refused before anything is changed."""
    tensors, metadata = parts(saved)
    changed = {name: value for name, value in (tensors | change).items() if value is not None}
    save_file(changed, saved, metadata)
    assert refuse(saved)


def test_fingerprint_tells_runs_apart() -> None:
    """Prompt, parameters, guidance and version count; what only the end looks at does not."""
    basis = (Parameters(), "a cat", {"model": "x"}, "1.0.0")
    mark = checkpoint.fingerprint(*basis)
    assert mark == checkpoint.fingerprint(*basis)
    assert mark == checkpoint.fingerprint(Parameters(vertex_count=900), *basis[1:])
    others = [
        (Parameters(seed=1), *basis[1:]),
        (basis[0], "a dog", *basis[2:]),
        (*basis[:2], {"model": "y"}, "1.0.0"),
        (*basis[:3], "1.0.1"),
    ]
    assert mark not in {checkpoint.fingerprint(*other) for other in others}
