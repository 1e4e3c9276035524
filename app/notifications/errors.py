"""Errors about webhooks and deliveries."""

from app.errors import AppError


class DestinationError(AppError):
    """This URL cannot be told of anything."""

    status = 422
    code = "DESTINATION_REFUSED"

    def __init__(self, detail: str, *, pointer: str = "/url") -> None:
        super().__init__(f"{pointer}: {detail}", errors=[{"pointer": pointer, "detail": detail}])
        self.reason = detail


class WebhookNotFoundError(AppError):
    """There is no such webhook."""

    status = 404
    code = "WEBHOOK_NOT_FOUND"


class TooManyWebhooksError(AppError):
    """You have as many webhooks as one user may have. Delete one that you do not need."""

    status = 409
    code = "TOO_MANY_WEBHOOKS"


class DeliveryNotFoundError(AppError):
    """There is no such delivery; they are kept for some weeks only."""

    status = 404
    code = "DELIVERY_NOT_FOUND"


class EmailUnavailableError(AppError):
    """E-mail cannot be sent to you: this site sends none, or your account has no address."""

    status = 409
    code = "EMAIL_UNAVAILABLE"
