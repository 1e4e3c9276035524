"""Finding pipelines stays cheap."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker_vm.pipelines.base import Pipeline, PipelineError
from worker_vm.pipelines.registry import PIPELINES, load_pipeline

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    *("numba", "numpy", "cv2", "scipy", "skimage", "manifold3d", "PIL"),
    *("torch", "diffusers", "transformers", "safetensors"),
)


def test_asking_imports_nothing_heavy() -> None:
    """Listing pipelines and asking each whether it can run imports no numeric library."""
    code = (
        "import sys\n"
        "from worker_vm.pipelines.registry import PIPELINES, load_pipeline\n"
        "for name in PIPELINES: load_pipeline(name).unavailable_reasons()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_every_entry_leads_to_a_pipeline(name: str) -> None:
    """Each name loads a class that carries the same name and a version."""
    found = load_pipeline(name)
    assert issubclass(found, Pipeline)
    assert found.name == name
    assert found.version


def test_inflate_can_run_here() -> None:
    """All that `inflate` needs is installed."""
    assert load_pipeline("inflate").unavailable_reasons() == []


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed is named in a sentence."""
    monkeypatch.setattr("worker_vm.pipelines.inflate.pipeline.find_spec", lambda _: None)
    reasons = load_pipeline("inflate").unavailable_reasons()
    assert "The Python package 'manifold3d' is not installed." in reasons


def test_unknown_name() -> None:
    """An unknown pipeline is an error that another worker may not have."""
    with pytest.raises(PipelineError) as caught:
        load_pipeline("teleport")
    assert caught.value.code == "UNKNOWN_PIPELINE"
    assert not caught.value.permanent
