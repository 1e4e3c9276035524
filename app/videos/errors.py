"""Errors of forms that bring videos."""

from app.errors import AppError, UnsupportedMediaTypeError


class UnsupportedFormError(UnsupportedMediaTypeError):
    """Send the body as a form with files, with `Content-Type: multipart/form-data`."""


class InvalidFormError(AppError):
    """The body is not a form as `multipart/form-data` describes it (RFC 7578)."""

    status = 400
    code = "INVALID_FORM"


class NoVideoError(AppError):
    """The form has no file. Send one or more videos as parts with a file name."""

    status = 422
    code = "NO_VIDEO"


class UploadInterruptedError(AppError):
    """The upload stopped before its end. Nothing of it is kept; send it again."""

    status = 408
    code = "UPLOAD_INTERRUPTED"


class TooManyUploadsError(AppError):
    """Too many of your uploads are under way. Wait for one of them to end."""

    status = 429
    code = "TOO_MANY_UPLOADS"


class VideoNotFoundError(AppError):
    """There is no such video."""

    status = 404
    code = "VIDEO_NOT_FOUND"
