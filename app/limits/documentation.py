"""The limits in the OpenAPI document: the refusal and the headers of every limited route."""

from collections.abc import Collection
from typing import Any

from fastapi import FastAPI

from app.limits.errors import RateLimitExceededError
from app.web.problems import add_problems

_HEADERS = {
    "RateLimit": {
        "description": "What is left of each limit that the request counts for (`r`), and in how "
        "many seconds its window is over (`t`); missing where nothing is limited",
        "schema": {"type": "string"},
        "example": '"requests";r=299;t=60',
    },
    "RateLimit-Policy": {
        "description": "Each of these limits: its quota (`q`) in a window of so many seconds (`w`)",
        "schema": {"type": "string"},
        "example": '"requests";q=300;w=60',
    },
}
_RETRY_AFTER = {
    "description": "Seconds to wait; with limits and with quotas that are renewed",
    "schema": {"type": "integer", "minimum": 1},
}
_TOO_MANY = "429"


def document_limits(app: FastAPI, unlimited: Collection[str]) -> None:
    """Complete an app's OpenAPI document by what its limits add to its routes.

    Args:
        app: the app.
        unlimited: beginnings of paths that are not limited, as the middleware has them.
    """
    beginnings = tuple(unlimited)
    without_limits = app.openapi
    done: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        document = without_limits()
        if document is not done.get("document"):
            done["document"] = document
            for path, item in document["paths"].items():
                if not path.startswith(beginnings):
                    for operation in item.values():
                        _document(operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _document(operation: dict[str, Any]) -> None:
    add_problems(operation, RateLimitExceededError)
    for status, response in operation["responses"].items():
        headers = response.setdefault("headers", {})
        headers |= _HEADERS
        if status == _TOO_MANY:
            headers["Retry-After"] = _RETRY_AFTER
