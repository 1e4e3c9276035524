"""Checking a job's parameters again in the worker: it may be newer or older than the catalog."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from worker_vm.pipelines.base import PipelineError

Parameters = TypeVar("Parameters", bound=BaseModel)


def checked_parameters(kind: type[Parameters], given: Mapping[str, Any]) -> Parameters:
    """A job's parameters as a pipeline's own type.

    Raises:
        PipelineError: INVALID_PARAMETERS, permanent.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "parameters"
        problem = first["msg"].removeprefix("Value error, ")
        raise PipelineError("INVALID_PARAMETERS", f"{where}: {problem}.", permanent=True) from error
