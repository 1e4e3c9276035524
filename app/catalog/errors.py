"""Errors about the catalog and its parameters."""

from app.errors import AppError


class ModelNotFoundError(AppError):
    """There is no such model in the catalog; `GET /api/v1/models/` lists them."""

    status = 404
    code = "MODEL_NOT_FOUND"


class InvalidParametersError(AppError):
    """The parameters do not fit the model's schema."""

    status = 422
    code = "INVALID_PARAMETERS"


class PromptError(AppError):
    """The prompt is missing, or the model takes none."""

    status = 422
    code = "INVALID_PROMPT"
