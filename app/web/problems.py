"""Errors as `application/problem+json` (RFC 9457)."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.errors import AppError, FieldError, InvalidRequestError, ServiceUnavailableError
from app.logs import get_logger
from app.storage.base import StorageUnavailableError

log = get_logger(__name__)

_MESSAGE_LIMIT = 500
_ERRORS_LIMIT = 50


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
            "model": Problem,
            "description": f"{known['description']}\n\n{line}" if known else line,
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
    return by_status


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


def _pointer(location: tuple[int | str, ...]) -> str:
    parts = location[1:] if location and location[0] == "body" else location
    return "/" + "/".join(str(p).replace("~", "~0").replace("/", "~1") for p in parts)


def _from_validation(error: RequestValidationError) -> AppError:
    fields: list[FieldError] = [
        {"pointer": _pointer(item["loc"]), "detail": str(item["msg"])[:_MESSAGE_LIMIT]}
        for item in error.errors()[:_ERRORS_LIMIT]
    ]
    first = fields[0] if fields else {"pointer": "", "detail": "not valid"}
    return InvalidRequestError(f"{first['pointer']}: {first['detail']}", errors=fields)


def install_problem_handlers(app: FastAPI) -> None:
    """Render every error of an app as a problem; the middleware renders the unexpected."""

    @app.exception_handler(AppError)
    async def _app_error(_: Request, error: AppError) -> JSONResponse:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(_from_validation(error))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        return problem_response(_HttpError(error.status_code, str(error.detail), headers))

    @app.exception_handler(StorageUnavailableError)
    async def _storage(_: Request, error: StorageUnavailableError) -> JSONResponse:
        log.warning("storage is unavailable", error=str(error))
        return problem_response(
            ServiceUnavailableError("Object storage is away. Try again in a moment.")
        )

    async def _database(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, DBAPIError) and not (
            error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)
        ):
            raise error
        log.warning("the database is unavailable", error=str(error)[:_MESSAGE_LIMIT])
        return problem_response(
            ServiceUnavailableError("The database is away. Try again in a moment.")
        )

    for kind in (DBAPIError, PoolTimeoutError, ConnectionError):
        app.add_exception_handler(kind, _database)
