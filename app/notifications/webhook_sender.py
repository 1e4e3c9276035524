"""Sends webhooks and callbacks: signed, and answered with a 2xx if all is well."""

import re
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpcore
from typing_extensions import override

from app import __version__
from app.config import Settings
from app.notifications.deliverer import Sender
from app.notifications.errors import DestinationError
from app.notifications.guarded_http import (
    ForbiddenAddressError,
    GuardedHttp,
    HttpAnswer,
    UnknownHostError,
)
from app.notifications.messages import body_of
from app.notifications.outbox import DueDelivery, Outcome
from app.notifications.signing import signed_headers
from app.notifications.urls import UrlPolicy

_SHOWN_CHARACTERS = 500
_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_SECONDS = re.compile(r"[0-9]+")
_NETWORK_ERRORS = (
    *(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException),
    *(ssl.SSLError, OSError),
)


class WebhookSender(Sender):
    """Sends a delivery to the URL that it names.

    Args:
        settings: the key of the secrets, and which URLs may be called.
        http: makes the requests.
    """

    def __init__(self, settings: Settings, http: GuardedHttp) -> None:
        self._policy = UrlPolicy(settings)
        self._secret_key = settings.secret_key.get_secret_value()
        self._http = http

    @override
    async def send(self, delivery: DueDelivery) -> Outcome:
        now = datetime.now(UTC)
        body = body_of(delivery)
        secrets = delivery.secret.in_use(self._secret_key, now)
        headers = {
            "content-type": "application/json",
            "accept": "*/*",
            "user-agent": f"Pipeline3D-Webhooks/{__version__}",
            **signed_headers(str(delivery.event_id), body, secrets, now),
        }
        try:
            destination = self._policy.check(delivery.url or "")
            return _judge(await self._http.post(destination, headers, body), now)
        except DestinationError as error:
            return Outcome(error.reason)  # the settings have changed, and may change back
        except (ForbiddenAddressError, UnknownHostError) as error:
            return Outcome(str(error))
        except TimeoutError:
            return Outcome("There was no whole answer within the time limit.")
        except _NETWORK_ERRORS as error:
            return Outcome(f"No answer: {type(error).__name__}: {error}"[:_SHOWN_CHARACTERS])


def _judge(answer: HttpAnswer, now: datetime) -> Outcome:
    start = answer.start.decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    error = None
    if answer.status in range(300, 400):
        error = f"The receiver answered {answer.status}; redirects are not followed."
    elif answer.status not in range(200, 300):
        error = f"The receiver answered {answer.status}; a 2xx is expected."
    gone = answer.status == HTTPStatus.GONE
    return Outcome(
        error,
        answer.status,
        start[:_SHOWN_CHARACTERS],
        final=gone,
        gone=gone,
        retry_after=seconds_asked(answer, now),
    )


def seconds_asked(answer: HttpAnswer, now: datetime) -> float:
    """How long a receiver that is busy asks not to be called; 0 if it says nothing sensible.

    Source: RFC 9110, section 10.2.3 (seconds, or a date); RFC 6585, section 4 (429).
    """
    if answer.status not in _BUSY or answer.retry_after is None:
        return 0.0
    if _SECONDS.fullmatch(answer.retry_after):
        return float(answer.retry_after)
    try:
        until = parsedate_to_datetime(answer.retry_after)
    except (ValueError, OverflowError):
        return 0.0
    if until.tzinfo is None:  # what `-0000` means in mail; here all dates are in GMT
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())
