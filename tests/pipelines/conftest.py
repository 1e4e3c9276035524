"""Running `inflate` without a worker, and Stable Fast 3D or a stand-in for it."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inflate_runs import Outcome, Recorder

from tests.support.gpu import leave_out_without_gpu
from tests.support.sf3d import make_python, make_weights
from worker_vm.pipelines.base import Pipeline, RunInput
from worker_vm.pipelines.registry import load_pipeline


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    loaded = load_pipeline("inflate")()
    loaded.setup()
    return loaded


@pytest.fixture(scope="session")
def inflate(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcome]:
    """Run the pipeline on a file's bytes with some parameters."""

    def run(picture: bytes, **parameters: Any) -> Outcome:
        work_dir = tmp_path_factory.mktemp("run")
        source = tmp_path_factory.mktemp("input") / "picture"
        source.write_bytes(picture)
        recorder = Recorder()
        job = RunInput(
            job_id=uuid.uuid4(),
            model_id="inflate-v1",
            model_version="1.0.0",
            params={"image_path": "uploads/picture.png", **parameters},
            prompt=None,
            inputs={"image_path": source},
            work_dir=work_dir,
        )
        return Outcome(recorder, pipeline.run(job, recorder))

    return run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of a GPU and of a real Stable Fast 3D where there is none to test."""
    leave_out_without_gpu(config, items)
    if os.environ.get("SF3D_PYTHON"):
        return
    left_out = [item for item in items if item.get_closest_marker("sf3d")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def stand_in_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the stand-in for Stable Fast 3D."""
    return make_python(tmp_path_factory.mktemp("sf3d") / "venv")


@pytest.fixture(scope="session")
def stand_in_settings(
    stand_in_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The settings with which a worker can run the stand-in."""
    return {
        "SF3D_PYTHON": str(stand_in_python),
        "SF3D_MODEL": str(make_weights(tmp_path_factory.mktemp("weights") / "sf3d")),
        "SF3D_LICENCE_ACCEPTED": "true",
        "SF3D_USE_CPU": "1",
    }
