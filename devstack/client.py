"""A client of the public HTTP API, short enough to read: upload, create, watch, download.

with Client("http://127.0.0.1:8000", api_key) as client:
    object_name = client.upload(Path("duck.png"))
    job = client.create_job("inflate-v1", {"image_path": object_name})
    for job in client.watch(job["id"]):
        print(job["status"], job["progress_percent"], job["stage"])
    for artifact in client.artifacts(job["id"]):
        client.download(artifact["url"], Path(artifact["name"]))
"""

import mimetypes
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
POLL_SECONDS = 0.2


class ApiError(Exception):
    """The API or the storage refused; the message is what it said."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """One caller of the API. Bytes go straight to and from object storage, not through the API."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._api = httpx.Client(
            base_url=f"{base_url}/api/v1", headers={"x-api-key": api_key}, timeout=60
        )
        self._storage = httpx.Client(timeout=300)  # presigned URLs need no key, and must see none

    def upload(self, path: Path) -> str:
        """Upload a file; answers the object's name, which goes into a job's parameters."""
        content = path.read_bytes()
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        ticket = self._json(
            "POST",
            "/jobs/upload-ticket",
            {"filename": path.name, "content_type": media_type, "size_bytes": len(content)},
        )
        answer = self._storage.put(ticket["upload_url"], content=content, headers=ticket["headers"])
        _check(answer)
        object_name: str = ticket["object_name"]
        return object_name

    def create_job(self, model_id: str, input_params: dict[str, Any]) -> dict[str, Any]:
        """Ask for a job; it is queued when this returns."""
        return self._json("POST", "/jobs/", {"model_id": model_id, "input_params": input_params})

    def watch(self, job_id: str) -> Iterator[dict[str, Any]]:
        """The job again and again, until it is final; the last one is."""
        while True:
            job = self._json("GET", f"/jobs/{job_id}")
            yield job
            if job["status"] in FINAL:
                return
            time.sleep(POLL_SECONDS)

    def artifacts(self, job_id: str) -> list[dict[str, Any]]:
        """The job's files, each with a URL to fetch it from."""
        items: list[dict[str, Any]] = self._json("GET", f"/jobs/{job_id}/artifacts")["items"]
        return items

    def events(self, job_id: str, event_type: str) -> list[dict[str, Any]]:
        """The job's events of a type or, with a star at its end, of all that begin like it."""
        events: list[dict[str, Any]] = []
        while True:
            after = events[-1]["id"] if events else 0
            query = f"type={event_type}&after={after}&limit=1000"
            page = self._json("GET", f"/jobs/{job_id}/events?{query}")["items"]
            if not page:
                return events
            events += page

    def download(self, url: str, target: Path) -> int:
        """Fetch a presigned URL into a file; answers its size in bytes."""
        with self._storage.stream("GET", url) as answer:
            if answer.is_error:
                answer.read()
            _check(answer)
            with target.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
        return target.stat().st_size

    def close(self) -> None:
        """Close the connections."""
        self._api.close()
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self._api.request(method, path, json=body)
        _check(answer)
        content: dict[str, Any] = answer.json()
        return content


def _check(answer: httpx.Response) -> None:
    if not answer.is_error:
        return
    said = answer.text.strip()
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        problem = answer.json()
        said = f"{problem['code']}: {problem['detail']}"
    request = answer.request
    raise ApiError(
        answer.status_code, f"{said} ({request.method} {request.url.path}: {answer.status_code})"
    )
