"""The pipelines this worker knows, by name; none is imported before it is asked for."""

from importlib import import_module

from worker_vm.pipelines.base import Pipeline, PipelineError

PIPELINES: dict[str, str] = {
    "inflate": "worker_vm.pipelines.inflate.pipeline:InflatePipeline",
}
"""Where each pipeline's class is, as `module:Class`."""


def load_pipeline(name: str) -> type[Pipeline]:
    """Import a pipeline's class.

    Raises:
        PipelineError: UNKNOWN_PIPELINE, this worker has none of that name.
    """
    try:
        module, _, attribute = PIPELINES[name].partition(":")
    except KeyError:
        known = ", ".join(sorted(PIPELINES))
        raise PipelineError(
            "UNKNOWN_PIPELINE",
            f"This worker knows no pipeline '{name}' (only {known}); update the worker.",
            permanent=False,
        ) from None
    found = getattr(import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, Pipeline)):
        raise TypeError(f"{PIPELINES[name]} is no pipeline")
    return found
