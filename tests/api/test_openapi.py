"""The OpenAPI document: valid, complete and honest about errors."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from app.jobs.schemas import JobOut
from app.notifications.events import TEST, Event

SCHEMA = json.loads(
    (Path(__file__).parent.parent / "support" / "openapi-3.1.schema.json").read_text()
)
UNLIMITED = ("livez", "readyz", "health")
METHODS = {"get", "post", "delete", "put", "patch"}


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    """The document as it is served."""
    return dict(json.loads(json.dumps(app.openapi())))


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield f"{method.upper()} {path}", operation


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


async def test_is_served(http: httpx.AsyncClient, document: dict[str, Any]) -> None:
    """The document is served, and it is OpenAPI 3.1."""
    answer = await http.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.json() == document
    assert document["openapi"].startswith("3.1.")


def test_is_valid(document: dict[str, Any]) -> None:
    """The document is valid under the specification's own schema."""
    errors = [error.message for error in Draft202012Validator(SCHEMA).iter_errors(document)]
    assert errors == []


def test_schemas_are_valid(document: dict[str, Any]) -> None:
    """Every schema in the document is a valid JSON Schema."""
    schemas = document["components"]["schemas"]
    assert schemas
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


def test_references_resolve(document: dict[str, Any]) -> None:
    """Every reference leads somewhere."""
    references = set(_references(document))
    assert references
    for reference in references:
        here: Any = document
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]


def test_operations_are_told_apart(document: dict[str, Any]) -> None:
    """Every operation has an id of its own, a summary and a tag."""
    operations = dict(_operations(document))
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(ids) == len(set(ids))
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["tags"], name


def test_routes_of_the_contract(document: dict[str, Any]) -> None:
    """Every client route that is promised is in the document."""
    found = {name for name, _ in _operations(document)}
    jobs = "/api/v1/jobs"
    assert {
        f"POST {jobs}/upload-ticket",
        f"POST {jobs}/",
        f"POST {jobs}/validate",
        f"GET {jobs}/",
        f"GET {jobs}/metrics",
        f"GET {jobs}/{{job_id}}",
        f"DELETE {jobs}/{{job_id}}",
        f"GET {jobs}/{{job_id}}/download",
        f"GET {jobs}/{{job_id}}/artifacts",
        f"GET {jobs}/{{job_id}}/artifacts/{{kind}}",
        f"GET {jobs}/{{job_id}}/events",
        f"POST {jobs}/{{job_id}}/cancel",
        f"POST {jobs}/{{job_id}}/retry",
        "GET /api/v1/models/",
        "GET /api/v1/models/{model_id}",
    } <= found


def test_errors_are_documented_as_problems(document: dict[str, Any]) -> None:
    """Every route with a key documents 401, and every error it documents is a problem."""
    for name, operation in _operations(document):
        assert ("401" in operation["responses"]) >= ("security" in operation), name
        for status, response in operation["responses"].items():
            if status.startswith("4"):
                assert "application/problem+json" in response["content"], f"{name} {status}"
                assert response["description"].startswith("`"), f"{name} {status}"


def test_routes_document_what_they_refuse(document: dict[str, Any]) -> None:
    """The errors that a route is known to answer with are in its documentation."""
    operations = dict(_operations(document))
    expected = {
        "POST /api/v1/jobs/": {"401", "403", "404", "409", "410", "413", "422"},
        "POST /api/v1/jobs/validate": {"401", "403", "404", "409", "410", "413", "422"},
        "POST /api/v1/jobs/upload-ticket": {"401", "403", "413", "422"},
        "GET /api/v1/jobs/{job_id}": {"401", "403", "404", "422"},
        "GET /api/v1/jobs/{job_id}/download": {"400", "401", "403", "404", "410", "422"},
        "POST /api/v1/jobs/{job_id}/cancel": {"401", "403", "404", "409", "422"},
        "POST /api/v1/jobs/{job_id}/retry": {"401", "403", "404", "409", "422"},
        "GET /api/v1/models/{model_id}": {"401", "404"},
        "POST /worker/v1/attempts/{attempt_id}/claim": {"401", "403", "404", "409", "410", "422"},
        "POST /worker/v1/attempts/{attempt_id}/finish": {"401", "403", "404", "409", "410", "422"},
    }
    for name, statuses in expected.items():
        assert statuses <= set(operations[name]["responses"]), name


def test_what_any_route_may_refuse_is_documented(document: dict[str, Any]) -> None:
    """Errors from before the route is asked are documented on each route, beside its own."""
    for name, operation in _operations(document):
        responses = operation["responses"]
        assert ("503" in responses) >= ("security" in operation), name
        takes_form = "multipart/form-data" in operation.get("requestBody", {}).get("content", {})
        if not (name.startswith("GET ") or takes_form):
            assert "`INVALID_JSON`" in responses["400"]["description"], name
            assert "`BODY_TOO_LARGE`" in responses["413"]["description"], name
        assert ("415" in responses) == ("requestBody" in operation), name
    ticket = dict(_operations(document))["POST /api/v1/jobs/upload-ticket"]
    for code in ("`UPLOAD_TOO_LARGE`", "`BODY_TOO_LARGE`"):
        assert ticket["responses"]["413"]["description"].count(code) == 1


def test_limits_are_documented(document: dict[str, Any]) -> None:
    """Routes for people document their limits on every answer; workers' and health have none."""
    for name, operation in _operations(document):
        path = name.partition(" ")[2]
        limited = "/worker/" not in path and not path.endswith(UNLIMITED)
        for status, response in operation["responses"].items():
            headers = response.get("headers", {}).keys()
            assert ({"RateLimit", "RateLimit-Policy"} <= headers) is limited, f"{name} {status}"
        if limited:
            refusal = operation["responses"]["429"]
            assert "`RATE_LIMIT_EXCEEDED`" in refusal["description"], name
            assert "Retry-After" in refusal["headers"], name
    operations = dict(_operations(document))
    for name in ("jobs/", "jobs/validate", "jobs/upload-ticket", "jobs/{job_id}/reproduce"):
        refusal = operations[f"POST /api/v1/{name}"]["responses"]["429"]
        assert "`QUOTA_EXCEEDED`" in refusal["description"], name


def test_webhooks_are_documented(document: dict[str, Any]) -> None:
    """Every event that is sent has an entry, with its signature and the body's schema."""
    assert document["webhooks"].keys() == {*map(str, Event), TEST}
    for name, item in document["webhooks"].items():
        operation = item["post"]
        headers = {parameter["name"] for parameter in operation["parameters"]}
        assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature"}
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        model = "TestMessage" if name == TEST else "JobMessage"
        assert schema == {"$ref": f"#/components/schemas/{model}"}


def test_framework_default_is_nowhere(document: dict[str, Any]) -> None:
    """No route documents the framework's own form of validation errors, which is never sent."""
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_examples_are_what_is_answered(document: dict[str, Any]) -> None:
    """The example of a job is one; the framework leaves out of it what is null."""
    (example,) = document["components"]["schemas"]["JobOut"]["examples"]
    whole = {**dict.fromkeys(JobOut.model_fields), **example}
    assert JobOut.model_validate(whole).model_dump(mode="json") == whole


def test_workers_say_everything_in_bodies(document: dict[str, Any]) -> None:
    """No worker route has a parameter but the attempt in its path and headers."""
    for name, operation in _operations(document):
        if "/worker/" in name:
            assert {p["in"] for p in operation.get("parameters", [])} <= {"path", "header"}, name
