"""Errors as clients see them."""

from typing import Any

import httpx


def assert_problem(
    answer: httpx.Response, status: int, code: str, *, pointer: str | None = None
) -> dict[str, Any]:
    """Check that an answer is a clear problem (RFC 9457); answers its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = dict(answer.json())
    assert body["status"] == status
    assert body["code"] == code, body
    assert body["type"] == f"urn:pipeline3d:problem:{code}"
    assert body["title"]
    assert len(body["detail"]) > len("too short"), "a problem has a sentence"
    assert "Traceback" not in answer.text
    assert "Value error" not in answer.text
    assert body["request_id"] == answer.headers["x-request-id"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]], body
    return body
