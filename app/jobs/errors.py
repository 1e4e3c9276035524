"""Errors about jobs and attempts."""

from app.errors import AppError


class JobNotFoundError(AppError):
    """There is no such job."""

    status = 404
    code = "JOB_NOT_FOUND"


class JobStateError(AppError):
    """The job's state does not allow this."""

    status = 409
    code = "JOB_STATE_CONFLICT"


class JobNotSucceededError(AppError):
    """The job has no result to download (yet)."""

    status = 400
    code = "JOB_NOT_SUCCEEDED"


class JobExpiredError(AppError):
    """The job's files have been deleted: its retention is over. Run it again for new ones."""

    status = 410
    code = "JOB_EXPIRED"


class ModelVersionChangedError(AppError):
    """The catalog has another version of the model now, so the same result cannot be made again."""

    status = 409
    code = "MODEL_VERSION_CHANGED"


class InputGoneError(AppError):
    """An input of the job is not in storage any more. Create a new job with a new upload."""

    status = 410
    code = "INPUT_GONE"


class InputReplacedError(AppError):
    """An input of the job has been replaced since. Create a new job with a new upload."""

    status = 409
    code = "INPUT_REPLACED"


class IdempotencyMismatchError(AppError):
    """This idempotency key was used before with another body. Use a new key for a new job."""

    status = 422
    code = "IDEMPOTENCY_KEY_REUSED"


class IdempotencyInFlightError(AppError):
    """A request with this idempotency key is being handled right now. Try again in a moment."""

    status = 409
    code = "IDEMPOTENCY_IN_FLIGHT"


class NoWorkerError(AppError):
    """No live worker serves this model. Without `require_worker` the job would wait for one."""

    status = 409
    code = "NO_WORKER"


class AttemptNotFoundError(AppError):
    """There is no such attempt."""

    status = 404
    code = "ATTEMPT_NOT_FOUND"


class AttemptSupersededError(AppError):
    """This attempt is not yours, or not the job's any more. Stop working on it."""

    status = 409
    code = "ATTEMPT_SUPERSEDED"


class AttemptGoneError(AppError):
    """The job was cancelled or has expired. Stop working on it."""

    status = 410
    code = "ATTEMPT_GONE"


class AttemptTokenError(AppError):
    """The attempt token is missing or wrong: send the one that the claim answered with."""

    status = 403
    code = "ATTEMPT_TOKEN_INVALID"


class ReportConflictError(AppError):
    """This attempt has ended with another report."""

    status = 409
    code = "REPORT_CONFLICT"


class ResultIncompleteError(AppError):
    """The report names artifacts that were not committed, or lacks the main one."""

    status = 422
    code = "RESULT_INCOMPLETE"
