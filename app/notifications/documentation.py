"""The section `webhooks` of the OpenAPI document: what receivers are sent."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Header

from app.notifications.events import TEST, Event
from app.notifications.messages import JobMessage, TestMessage

_Id = Annotated[str, Header(description="the same for every try: by it you can tell a repeat")]
_Timestamp = Annotated[str, Header(description="seconds since 1970: refuse what is minutes old")]
_Signature = Annotated[
    str,
    Header(
        description="`v1,` and the HMAC-SHA-256 in base64 of `{webhook-id}.{webhook-timestamp}."
        "{body}` with your secret; two of them, parted by a space, for a day after a rotation"
    ),
]

_ANSWERS = {
    204: {"description": "Any 2xx within 15 seconds: it will not be sent again"},
    410: {"description": "You want no more: the webhook is disabled at once"},
    "default": {"description": "Anything else, or no answer: it is sent again, for about a day"},
}


def _receiver(message: type[JobMessage | TestMessage]) -> Callable[..., Awaitable[None]]:
    async def receive(
        body: message,  # type: ignore[valid-type]
        webhook_id: _Id,
        webhook_timestamp: _Timestamp,
        webhook_signature: _Signature,
    ) -> None:
        """Signed as Standard Webhooks say (docs/notifications.md)."""

    return receive


def documented_webhooks() -> APIRouter:
    """One entry for each event."""
    router = APIRouter()
    for event in (*Event, TEST):
        name = str(event)
        message = TestMessage if event == TEST else JobMessage
        router.add_api_route(
            name,
            _receiver(message),
            methods=["POST"],
            status_code=204,
            name=name,
            summary=f"`{name}`",
            tags=["notifications"],
            responses=_ANSWERS,  # type: ignore[arg-type]
        )
    return router
