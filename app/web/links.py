"""Which answer leads to which request: the links of the OpenAPI document (3.1, "Link Object").

Clients' tools draw them; and the tests of the document follow them.
"""

from typing import Any

from fastapi import FastAPI

_CLIENT, _ATTEMPT = "/api/v1", "/worker/v1/attempts/{attempt_id}"
_JOB = f"{_CLIENT}/jobs/{{job_id}}"
_AUTH, _KEY, _USER = f"{_CLIENT}/auth", f"{_CLIENT}/keys/{{key_id}}", f"{_CLIENT}/users/{{user_id}}"
_WEBHOOK = f"{_CLIENT}/webhooks/{{webhook_id}}"
_REDELIVER = f"{_CLIENT}/webhooks/deliveries/{{delivery_id}}/redeliver"

_JOB_ID = {"job_id": "$response.body#/id"}
_SAME_JOB = {"job_id": "$request.path.job_id"}
_CLAIMED = {
    "attempt_id": "$response.body#/attempt_id",
    "X-Attempt-Token": "$response.body#/attempt_token",
}
_SAME_ATTEMPT = {
    "attempt_id": "$request.path.attempt_id",
    "X-Attempt-Token": "$request.header.X-Attempt-Token",
}


def _link(
    method: str, path: str, parameters: dict[str, str] | None = None, body: object = None
) -> dict[str, Any]:
    pointer = path.replace("~", "~0").replace("/", "~1")
    link: dict[str, Any] = {"operationRef": f"#/paths/{pointer}/{method}"}
    if parameters:
        link["parameters"] = parameters
    if body is not None:
        link["requestBody"] = body
    return link


def _of_job(parameters: dict[str, str]) -> dict[str, Any]:
    return {
        "job": _link("get", _JOB, parameters),
        "events": _link("get", f"{_JOB}/events", parameters),
        "artifacts": _link("get", f"{_JOB}/artifacts", parameters),
        "download": _link("get", f"{_JOB}/download", parameters),
        "cancel": _link("post", f"{_JOB}/cancel", parameters),
        "retry": _link("post", f"{_JOB}/retry", parameters),
        "reproduce": _link("post", f"{_JOB}/reproduce", parameters),
    }


def _of_attempt(parameters: dict[str, str]) -> dict[str, Any]:
    return {
        "heartbeat": _link("post", f"{_ATTEMPT}/heartbeat", parameters),
        "uploadTicket": _link("post", f"{_ATTEMPT}/upload-tickets", parameters),
        "finish": _link("post", f"{_ATTEMPT}/finish", parameters),
    }


def _of_key(parameters: dict[str, str]) -> dict[str, Any]:
    return {
        "rotate": _link("post", f"{_KEY}/rotate", parameters, {}),
        "revoke": _link("delete", _KEY, parameters),
        "keys": _link("get", f"{_CLIENT}/keys/"),
    }


def _of_webhook(parameters: dict[str, str]) -> dict[str, Any]:
    return {
        "webhook": _link("get", _WEBHOOK, parameters),
        "change": _link("patch", _WEBHOOK, parameters),
        "test": _link("post", f"{_WEBHOOK}/test", parameters),
        "rotateSecret": _link("post", f"{_WEBHOOK}/rotate-secret", parameters),
        "deliveries": _link("get", f"{_WEBHOOK}/deliveries", parameters),
        "delete": _link("delete", _WEBHOOK, parameters),
    }


def _of_user(parameters: dict[str, str]) -> dict[str, Any]:
    return {
        "user": _link("get", _USER, parameters),
        "change": _link("patch", _USER, parameters),
    }


def _of_delivery(delivery: str) -> dict[str, Any]:
    return {"redeliver": _link("post", _REDELIVER, {"delivery_id": f"$response.body#{delivery}"})}


# With the access token as `Authorization: Bearer …`, which is security and no parameter.
_OF_TOKENS = {
    "me": _link("get", f"{_AUTH}/me"),
    "logOut": _link("post", f"{_AUTH}/logout"),
    "refresh": _link(
        "post", f"{_AUTH}/refresh", body={"refresh_token": "$response.body#/refresh_token"}
    ),
}
_FIRST = "$response.body#/items/0/id"

_LINKS: dict[tuple[str, str], dict[str, Any]] = {
    ("post", f"{_AUTH}/register"): {
        "logIn": _link(
            "post",
            f"{_AUTH}/login",
            body={
                "username": "$response.body#/username",
                "password": "$request.body#/password",
            },
        ),
    },
    ("post", f"{_AUTH}/login"): _OF_TOKENS,
    ("post", f"{_AUTH}/refresh"): _OF_TOKENS,
    ("post", f"{_CLIENT}/keys/"): _of_key({"key_id": "$response.body#/id"}),
    ("post", f"{_KEY}/rotate"): _of_key({"key_id": "$response.body#/id"}),
    ("post", f"{_CLIENT}/users/"): _of_user({"user_id": "$response.body#/id"}),
    ("get", f"{_CLIENT}/users/"): _of_user({"user_id": _FIRST}),
    ("post", f"{_CLIENT}/webhooks/"): _of_webhook({"webhook_id": "$response.body#/id"}),
    ("get", f"{_CLIENT}/webhooks/"): _of_webhook({"webhook_id": _FIRST}),
    ("post", f"{_WEBHOOK}/test"): {
        **_of_delivery("/id"),
        "deliveries": _link(
            "get", f"{_WEBHOOK}/deliveries", {"webhook_id": "$request.path.webhook_id"}
        ),
    },
    ("get", f"{_WEBHOOK}/deliveries"): _of_delivery("/items/0/id"),
    ("get", f"{_CLIENT}/webhooks/deliveries"): _of_delivery("/items/0/id"),
    ("post", f"{_CLIENT}/jobs/upload-ticket"): {
        "createJob": _link(
            "post",
            f"{_CLIENT}/jobs/",
            body={
                "model_id": "inflate-v1",
                "input_params": {"image_path": "$response.body#/object_name"},
            },
        ),
    },
    ("post", f"{_CLIENT}/jobs/"): _of_job(_JOB_ID),
    ("get", f"{_CLIENT}/jobs/"): _of_job({"job_id": _FIRST}),
    ("post", f"{_JOB}/cancel"): _of_job(_SAME_JOB),
    ("post", f"{_JOB}/retry"): _of_job(_SAME_JOB),
    ("post", f"{_JOB}/reproduce"): _of_job(_JOB_ID),
    ("get", f"{_CLIENT}/models/"): {
        "model": _link("get", f"{_CLIENT}/models/{{model_id}}", {"model_id": _FIRST}),
    },
    ("post", f"{_ATTEMPT}/claim"): _of_attempt(_CLAIMED),
    ("post", f"{_ATTEMPT}/upload-tickets"): {
        "commit": _link(
            "post",
            f"{_ATTEMPT}/artifacts",
            _SAME_ATTEMPT,
            {"ticket_id": "$response.body#/ticket_id"},
        ),
    },
    ("post", f"{_ATTEMPT}/artifacts"): {
        "finish": _link(
            "post",
            f"{_ATTEMPT}/finish",
            _SAME_ATTEMPT,
            {"outcome": "succeeded", "artifact_ids": ["$response.body#/artifact_id"]},
        ),
    },
    ("post", f"{_ATTEMPT}/heartbeat"): _of_attempt(_SAME_ATTEMPT),
}


def document_links(app: FastAPI) -> None:
    """Complete an app's OpenAPI document with the links between its routes."""
    without_links = app.openapi

    def openapi() -> dict[str, Any]:
        document = without_links()
        for (method, path), links in _LINKS.items():
            responses = document["paths"][path][method]["responses"]
            for status, response in responses.items():
                if status.startswith("2"):
                    response["links"] = links
        return document

    app.openapi = openapi  # type: ignore[method-assign]
