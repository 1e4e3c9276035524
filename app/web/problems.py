"""Errors as `application/problem+json` (RFC 9457)."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.errors import (
    AppError,
    BodyTooLargeError,
    FieldError,
    InvalidJsonError,
    InvalidRequestError,
    ServiceUnavailableError,
    UnsupportedMediaTypeError,
)
from app.logs import get_logger
from app.storage.base import StorageUnavailableError

log = get_logger(__name__)

_MESSAGE_LIMIT = 500

# Deadlock, serialization failure, lock not available, query cancelled by a timeout, connections
# used up, starting or shutting down (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_PASSING_STATES = frozenset(
    {"40P01", "40001", "55P03", "57014", "53300", "57P01", "57P02", "57P03", "25P03"}
)
_CONNECTION_CLASS = "08"
_PASSING = (
    *(StorageUnavailableError, OSError),
    *(DBAPIError, PoolTimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError),
)
_ERRORS_LIMIT = 50
_REFERENCE = "#/components/schemas/{model}"
# What FastAPI says when the decoder raises anything else than a syntax error: bytes that are no
# UTF-8, or a number of more digits than Python converts.
_UNPARSED_BODY = "There was an error parsing the body"


class ProblemField(BaseModel):
    """One wrong value."""

    pointer: str = Field(
        description="JSON pointer into the body", examples=["/input_params/thickness"]
    )
    detail: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(examples=["urn:pipeline3d:problem:MODEL_NOT_FOUND"])
    title: str = Field(examples=["Model not found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="What was wrong and what to do")
    code: str = Field(examples=["MODEL_NOT_FOUND"])
    request_id: str | None = None
    errors: list[ProblemField] = []


def problem_body(error: AppError) -> dict[str, Any]:
    """The JSON body of an error."""
    return {
        "type": f"urn:pipeline3d:problem:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.detail[:_MESSAGE_LIMIT],
        "code": error.code,
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
        "errors": error.errors[:_ERRORS_LIMIT],
    }


def problem_response(error: AppError) -> JSONResponse:
    """The whole response of an error."""
    return JSONResponse(
        jsonable_encoder(problem_body(error)),
        status_code=error.status,
        headers=error.headers,
        media_type="application/problem+json",
    )


def problem_responses(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` for the errors a route may answer with."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        sentence = (error.__doc__ or "").strip().split("\n", 1)[0]
        line = f"`{error.code}`: {sentence}"
        known = by_status.get(error.status)
        by_status[error.status] = {
            "description": f"{known['description']}\n\n{line}" if known else line,
            "content": {
                "application/problem+json": {"schema": {"$ref": _REFERENCE.format(model="Problem")}}
            },
        }
    return by_status


def _common_errors(method: str, operation: dict[str, Any]) -> list[type[AppError]]:
    """What the framework or a middleware may answer before the route is asked."""
    errors: list[type[AppError]] = []
    body = operation.get("requestBody")
    takes_json = body is None or "application/json" in body["content"]
    if method != "get" and takes_json:
        errors += [InvalidJsonError, BodyTooLargeError]
    if body is not None and takes_json:
        errors.append(UnsupportedMediaTypeError)
    if "security" in operation:
        errors.append(ServiceUnavailableError)
    return errors


def add_problems(operation: dict[str, Any], *errors: type[AppError]) -> None:
    """Document errors of an OpenAPI operation beside those that it has already."""
    documented = operation["responses"]
    for status, response in problem_responses(*errors).items():
        own = documented.get(str(status))
        if own:
            own["description"] += f"\n\n{response['description']}"
        else:
            documented[str(status)] = response


def _document_common(paths: dict[str, Any]) -> None:
    for item in paths.values():
        for method, operation in item.items():
            add_problems(operation, *_common_errors(method, operation))


def document_problems(app: FastAPI) -> None:
    """Complete an app's OpenAPI document: the errors of all routes, and the schema of errors.

    FastAPI knows response models of one media type only, so it cannot do it.
    """
    without_problems = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = without_problems()
            _document_common(document["paths"])
            problem = Problem.model_json_schema(ref_template=_REFERENCE)
            document["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


class _HttpError(AppError):
    """An error of the framework, such as an unknown path."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None) -> None:
        super().__init__(detail, headers=headers)
        self.status = status  # type: ignore[misc]
        self.code = {  # type: ignore[misc]
            400: "BAD_REQUEST",
            404: "NOT_FOUND",
            405: "METHOD_NOT_ALLOWED",
        }.get(status, f"HTTP_{status}")


def _pointer(location: tuple[int | str, ...], body: Any) -> str:
    """A JSON pointer into the body (RFC 6901), or `/query/…`, `/header/…` beside it.

    Pydantic also names the member of a union and the key of a mapping; these are no places in the
    body and are left out.
    """
    if not location or location[0] != "body":
        return _join(location)
    parts: list[int | str] = []
    here = body
    for index, part in enumerate(location[1:], start=2):
        if _holds(here, part):
            here = here[part]
        elif index < len(location) or part == "[key]":
            continue
        parts.append(part)
    return _join(parts)


def _holds(container: Any, part: int | str) -> bool:
    if isinstance(container, list):
        return isinstance(part, int) and part < len(container)
    return isinstance(container, dict) and part in container


def _join(parts: Iterable[int | str]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _is_json(request: Request) -> bool:
    essence = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return essence == "application/json" or essence.endswith("+json")


def _from_validation(request: Request, error: RequestValidationError) -> AppError:
    problems = error.errors()
    for item in problems:
        if item["type"] == "json_invalid":
            reason = item.get("ctx", {}).get("error", "")
            return InvalidJsonError(
                f"The body is not JSON: {reason} at character {item['loc'][1]}."
            )
        if item["loc"] == ("body",):
            if item["type"] == "missing":
                return InvalidRequestError("The body is empty; send a JSON object.")
            if not _is_json(request):
                return UnsupportedMediaTypeError()
            if item["type"] in {"model_attributes_type", "dict_type"}:
                return InvalidRequestError("The body must be a JSON object.")
    fields: list[FieldError] = [
        {
            "pointer": _pointer(item["loc"], error.body),
            "detail": str(item["msg"]).removeprefix("Value error, ")[:_MESSAGE_LIMIT],
        }
        for item in problems[:_ERRORS_LIMIT]
    ]
    first = fields[0] if fields else {"pointer": "", "detail": "not valid"}
    where = first["pointer"] or "the body"
    return InvalidRequestError(f"{where}: {first['detail']}", errors=fields)


def install_problem_handlers(app: FastAPI) -> None:
    """Render every error of an app as a problem; the middleware renders the unexpected."""

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(_from_validation(request, error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == HTTPStatus.BAD_REQUEST and error.detail == _UNPARSED_BODY:
            return problem_response(InvalidJsonError())
        headers = dict(error.headers) if error.headers else None
        detail = {
            HTTPStatus.NOT_FOUND: "There is nothing at this path; `/docs` lists what there is.",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible at this path.",
        }.get(HTTPStatus(error.status_code), str(error.detail))
        return problem_response(_HttpError(error.status_code, detail, headers))

    async def _problem(_: Request, error: Exception) -> JSONResponse:
        return problem_response(problem_of(error))

    for kind in (AppError, *_PASSING):
        app.add_exception_handler(kind, _problem)


def problem_of(error: Exception) -> AppError:
    """The problem to answer with; an error that has no answer of its own is raised again."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, StorageUnavailableError):
        log.warning("storage is unavailable", error=str(error))
        return ServiceUnavailableError("Object storage is away. Try again in a moment.")
    if not may_pass(error):
        raise error
    log.warning("the database is unavailable", error=str(error)[:_MESSAGE_LIMIT])
    return ServiceUnavailableError("The database is busy or away. Try again in a moment.")


def may_pass(error: Exception) -> bool:
    """Whether what failed for the database or the storage may well succeed a moment later.

    Not if the driver itself refuses what it was given, or the server a statement: a bug.
    """
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(error, OperationalError):
            return True
        # SQLAlchemy tells less than the driver, whose error is behind its own.
        cause = error.orig and error.orig.__cause__
        return (
            may_pass(cause) if isinstance(cause, Exception) else isinstance(error, InterfaceError)
        )
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state in _PASSING_STATES or state.startswith(_CONNECTION_CLASS)
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)  # what it was given is wrong, not the connection
    return isinstance(error, _PASSING)
