"""Errors about uploads and artifacts."""

from app.errors import AppError


class UploadTooLargeError(AppError):
    """The file is too large."""

    status = 413
    code = "UPLOAD_TOO_LARGE"


class UploadNotFoundError(AppError):
    """There is no such upload of yours. Use the `object_name` of your own upload ticket."""

    status = 404
    code = "UPLOAD_NOT_FOUND"


class UploadMissingError(AppError):
    """Nothing has been uploaded with this ticket. PUT the file to its `upload_url` first."""

    status = 409
    code = "UPLOAD_MISSING"


class UploadExpiredError(AppError):
    """The upload ticket has expired. Ask for a new one and upload the file again."""

    status = 410
    code = "UPLOAD_EXPIRED"


class UploadMismatchError(AppError):
    """What was uploaded is not what the ticket promised. Upload the file again."""

    status = 422
    code = "UPLOAD_MISMATCH"


class UploadTypeError(AppError):
    """The file is not of an accepted type."""

    status = 422
    code = "UPLOAD_TYPE_NOT_ACCEPTED"


class ImageTooLargeError(AppError):
    """The picture has too many pixels."""

    status = 422
    code = "IMAGE_TOO_LARGE"


class ArtifactNotFoundError(AppError):
    """The job has no such artifact."""

    status = 404
    code = "ARTIFACT_NOT_FOUND"


class ArtifactNotUploadedError(AppError):
    """The object is not in storage. Upload it with its ticket before committing."""

    status = 409
    code = "ARTIFACT_NOT_UPLOADED"


class ArtifactMismatchError(AppError):
    """What is in storage is not what the ticket promised."""

    status = 422
    code = "ARTIFACT_MISMATCH"


class ArtifactCommittedError(AppError):
    """An artifact of this name has been committed with other content."""

    status = 409
    code = "ARTIFACT_ALREADY_COMMITTED"


class TicketNotFoundError(AppError):
    """This attempt has no such upload ticket."""

    status = 404
    code = "TICKET_NOT_FOUND"
