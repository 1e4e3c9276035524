"""Routes that read their body as it comes, and bound it themselves."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from fastapi import FastAPI

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_MARK = "streams_body"


def streams_body(endpoint: Endpoint) -> Endpoint:
    """Except a route from the limit of request bodies; it has to count what it reads.

    Its path has no parameters.
    """
    setattr(endpoint, _MARK, True)
    return endpoint


def streamed_paths(app: FastAPI) -> frozenset[str]:
    """The paths of an app's routes that are marked so."""
    return frozenset(_marked(app, ""))


def _marked(router: Any, prefix: str) -> Iterator[str]:
    for route in router.routes:
        if included := getattr(route, "original_router", None):
            yield from _marked(included, prefix + route.include_context.prefix)
        elif getattr(getattr(route, "endpoint", None), _MARK, False):
            yield prefix + route.path
