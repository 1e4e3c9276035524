"""The pipelines this worker knows, by name; none is imported before it is asked for."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from worker_vm.pipelines.base import Pipeline, PipelineError

PLUGINS_SETTING = "WORKER_PIPELINES"

_PLUGIN = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9_-]{0,63})=(?P<where>[\w.]+:\w+)(?:@(?P<python>\S+))?"
)


@dataclass(frozen=True)
class PipelineEntry:
    """Where a pipeline is.

    Args:
        where: its class, as `module:Class`.
        python_setting: the environment variable that names the Python it runs in; the worker's own
            if that is not set.
    """

    where: str
    python_setting: str | None = None
    python: str | None = None


PIPELINES: dict[str, PipelineEntry] = {
    "dreamfusion": PipelineEntry("worker_vm.pipelines.dreamfusion.pipeline:DreamFusionPipeline"),
    "inflate": PipelineEntry("worker_vm.pipelines.inflate.pipeline:InflatePipeline"),
    "sf3d": PipelineEntry(
        "worker_vm.pipelines.sf3d.pipeline:Sf3dPipeline", python_setting="SF3D_PYTHON"
    ),
    "video-analytics": PipelineEntry("worker_vm.pipelines.analytics.pipeline:AnalyticsPipeline"),
    "video-frames": PipelineEntry("worker_vm.pipelines.frames.pipeline:FramesPipeline"),
}


def known_pipelines(environment: Mapping[str, str] = os.environ) -> dict[str, PipelineEntry]:
    """Ours and those that the operator plugs in by `WORKER_PIPELINES`.

    It lists `name=module:Class`, or `name=module:Class@/path/to/python` for one that runs in a
    Python of its own, parted by spaces or commas.

    Raises:
        ValueError: the setting is malformed.
    """
    entries = dict(PIPELINES)
    for text in environment.get(PLUGINS_SETTING, "").replace(",", " ").split():
        found = _PLUGIN.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} is not of the form name=module:Class or name=module:Class@python"
            )
        entries[found["name"]] = PipelineEntry(found["where"], python=found["python"])
    return entries


def python_of(entry: PipelineEntry, environment: Mapping[str, str] = os.environ) -> str | None:
    """The Python that a pipeline runs in; None for the worker's own."""
    if entry.python_setting:
        return environment.get(entry.python_setting) or None
    return entry.python


def load_pipeline(name: str) -> type[Pipeline]:
    """Import a pipeline's class.

    Raises:
        PipelineError: UNKNOWN_PIPELINE, this worker has none of that name.
    """
    entries = known_pipelines()
    try:
        module, _, attribute = entries[name].where.partition(":")
    except KeyError:
        known = ", ".join(sorted(entries))
        raise PipelineError(
            "UNKNOWN_PIPELINE",
            f"This worker knows no pipeline '{name}' (only {known}); update the worker.",
            permanent=False,
        ) from None
    found = getattr(import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, Pipeline)):
        raise TypeError(f"{entries[name].where} is no pipeline")
    return found
