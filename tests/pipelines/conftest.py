"""Running `inflate` without a worker."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from inflate_runs import Outcome, Recorder

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
