"""Errors that reach a person: a stable code, an HTTP status and a sentence."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypedDict


class FieldError(TypedDict):
    """One wrong value, named by a JSON pointer into the request body."""

    pointer: str
    detail: str


class AppError(Exception):
    """Something went wrong.

    A subclass names one kind of error; its docstring is the default sentence.

    Args:
        detail: what was wrong and what to do, for a person.
        errors: the single wrong values, where there are any.
        headers: extra response headers.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip().split("\n", 1)[0]
        self.errors = list(errors)
        self.headers = dict(headers or {})
        super().__init__(self.detail)


class InvalidRequestError(AppError):
    """The request is not valid."""

    status = 422
    code = "INVALID_REQUEST"


class InvalidJsonError(AppError):
    """The body cannot be read as JSON. Send JSON in UTF-8 (RFC 8259)."""

    status = 400
    code = "INVALID_JSON"


class UnsupportedMediaTypeError(AppError):
    """Send the body as JSON, with `Content-Type: application/json`."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"


class BodyTooLargeError(AppError):
    """The request body is too large."""

    status = 413
    code = "BODY_TOO_LARGE"


class ServiceUnavailableError(AppError):
    """A service that this needs is away. Try again in a moment."""

    status = 503
    code = "SERVICE_UNAVAILABLE"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": "5"})
