"""From a pipeline's name to its class, and to one that is loaded."""

import time

from worker_vm.logs import get_logger
from worker_vm.pipelines import registry
from worker_vm.pipelines.base import Pipeline, PipelineError

log = get_logger(__name__)


class PipelineUnavailableError(Exception):
    """This worker cannot run a pipeline.

    Args:
        reasons: why, as sentences.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons


def find_pipeline(name: str) -> type[Pipeline]:
    """The class of a pipeline.

    Raises:
        PipelineUnavailableError: there is none of that name here, or its code doesn't import.
    """
    try:
        return registry.load_pipeline(name)
    except PipelineError as error:
        raise PipelineUnavailableError([error.message]) from error
    except Exception as error:
        raise PipelineUnavailableError(
            [f"The pipeline {name} cannot be imported: {type(error).__name__}: {error}."]
        ) from error


def reasons_against(pipeline: type[Pipeline]) -> list[str]:
    """Why a pipeline can't run here; a check that fails is a reason too."""
    try:
        return pipeline.unavailable_reasons()
    except Exception as error:  # noqa: BLE001  (one broken pipeline must not hide the others)
        return [f"The check of {pipeline.name} failed: {type(error).__name__}: {error}."]


class PipelineCache:
    """Pipelines that have been set up, for as long as this process lives."""

    def __init__(self) -> None:
        self._ready: dict[str, Pipeline] = {}

    def require(self, name: str) -> type[Pipeline]:
        """The class of a pipeline that can run here.

        Raises:
            PipelineUnavailableError: it can't.
        """
        pipeline = find_pipeline(name)
        reasons = reasons_against(pipeline)
        if reasons:
            raise PipelineUnavailableError(reasons)
        return pipeline

    def ready(self, name: str) -> Pipeline:
        """A pipeline after its `setup()`, which runs once for each process."""
        if name not in self._ready:
            pipeline = find_pipeline(name)()
            started = time.monotonic()
            pipeline.setup()
            log.info("pipeline.ready", seconds=round(time.monotonic() - started, 3))
            self._ready[name] = pipeline
        return self._ready[name]
