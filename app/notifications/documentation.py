"""The section `webhooks` of the OpenAPI document (3.1): what receivers are sent.

FastAPI would take the body for one that we are sent, and so describe jobs twice.
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from app.notifications.events import TEST, Event
from app.notifications.messages import JobMessage, TestMessage

_REFERENCE = "#/components/schemas/{model}"
_HEADERS = {
    "webhook-id": "the same for every try: by it you can tell a repeat",
    "webhook-timestamp": "seconds since 1970: refuse what is minutes old",
    "webhook-signature": "`v1,` and, in base64, the HMAC-SHA-256 of `{webhook-id}."
    "{webhook-timestamp}.{body}` with your secret; for a day after a rotation two of them, parted "
    "by a space",
}
_BUSY = {
    "description": "It is sent again by the schedule, or after `Retry-After` (seconds or a date, "
    "of a day at most) if that is later"
}
_RESPONSES = {
    "2XX": {"description": "Within 15 seconds: it is not sent again"},
    "410": {"description": "You want no more: the webhook is disabled at once"},
    "429": _BUSY,
    "503": _BUSY,
    "default": {"description": "Anything else, or no answer: it is sent again, for about a day"},
}


def _operation(name: str, message: type[BaseModel]) -> dict[str, Any]:
    reference = {"$ref": _REFERENCE.format(model=message.__name__)}
    return {
        "operationId": f"receive_{name.replace('.', '_')}",
        "summary": f"`{name}`",
        "description": "Signed as Standard Webhooks say (docs/notifications.md).",
        "tags": ["notifications"],
        "parameters": [
            {
                "name": header,
                "in": "header",
                "required": True,
                "description": description,
                "schema": {"type": "string"},
            }
            for header, description in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}},
        "responses": _RESPONSES,
    }


def document_webhooks(app: FastAPI) -> None:
    """Complete an app's OpenAPI document with what it sends to webhooks and callbacks."""
    without_webhooks = app.openapi

    def openapi() -> dict[str, Any]:
        document = without_webhooks()
        schemas = document["components"]["schemas"]
        for message in (JobMessage, TestMessage):
            schema = message.model_json_schema(mode="serialization", ref_template=_REFERENCE)
            schemas |= {**schema.pop("$defs", {}), **schemas, message.__name__: schema}
        document["webhooks"] = {
            name: {"post": _operation(name, TestMessage if name == TEST else JobMessage)}
            for name in (*map(str, Event), TEST)
        }
        return document

    app.openapi = openapi  # type: ignore[method-assign]
