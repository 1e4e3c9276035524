"""A worker played by hand: it speaks the worker API for real, but runs no pipeline."""

import hashlib
from typing import Any, Self
from uuid import UUID, uuid4

import httpx

from contract.attempts import ATTEMPT_TOKEN_HEADER, JobSpec
from contract.streams import PART_BYTES

BASE = "/worker/v1"
GLB = b"glTF" + (2).to_bytes(4, "little") + (12).to_bytes(4, "little")
"""The shortest file that is a GLB by its header."""
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomavc1" + b"not decoded here" * 300
"""A file that is an MP4 by its first bytes, and nothing else."""
ZIP = b"PK\x03\x04" + b"stored" * 100
"""The same of a ZIP."""


class FakeWorker:
    """One live worker of the `cpu` queue."""

    def __init__(self, api_url: str, key: str, *, name: str = "test-worker") -> None:
        self.name = name
        self.client = httpx.AsyncClient(
            base_url=api_url, headers={"x-api-key": key}, trust_env=False, timeout=30
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def report(
        self,
        *,
        queue: str = "cpu",
        pipelines: tuple[str, ...] = ("inflate",),
        warm: bool = False,
        stopping: bool = False,
        name: str | None = None,
    ) -> httpx.Response:
        """Say that this worker lives and what it can run."""
        return await self.client.post(
            f"{BASE}/workers/heartbeat",
            json={
                "name": name or self.name,
                "hostname": "test",
                "version": "0",
                "queue": queue,
                "started_at": "2026-01-01T00:00:00Z",
                "cpu_count": 1,
                "memory_total_mib": 1024,
                "pipelines": [
                    {"name": pipeline, "version": "1", "runnable": True, "warm": warm}
                    for pipeline in pipelines
                ],
                "stopping": stopping,
            },
        )

    async def claim(self, attempt_id: object, claim_id: UUID | None = None) -> httpx.Response:
        """Ask for the right to run an attempt."""
        return await self.client.post(
            f"{BASE}/attempts/{attempt_id}/claim",
            json={"worker_name": self.name, "claim_id": str(claim_id or uuid4())},
        )

    async def start(self, attempt_id: object) -> JobSpec:
        """Claim an attempt that can be claimed."""
        answer = await self.claim(attempt_id)
        assert answer.status_code == 200, answer.text
        return JobSpec.model_validate(answer.json())

    async def call(self, spec: JobSpec, what: str, body: dict[str, Any]) -> httpx.Response:
        """One call of a running attempt, with its token."""
        return await self.client.post(
            f"{BASE}/attempts/{spec.attempt_id}/{what}",
            json=body,
            headers={ATTEMPT_TOKEN_HEADER: spec.attempt_token},
        )

    async def ticket(
        self,
        spec: JobSpec,
        data: bytes = GLB,
        *,
        kind: str = "model_3d",
        name: str = "model.glb",
        media_type: str = "model/gltf-binary",
        size_bytes: int | None = None,
        sha256: str | None = None,
    ) -> httpx.Response:
        """Ask to upload a file."""
        return await self.call(
            spec,
            "upload-tickets",
            {
                "kind": kind,
                "name": name,
                "media_type": media_type,
                "size_bytes": size_bytes or len(data),
                "sha256": sha256 or hashlib.sha256(data).hexdigest(),
            },
        )

    async def put(self, ticket: dict[str, Any], data: bytes = GLB) -> None:
        """Upload a ticket's file."""
        async with httpx.AsyncClient(trust_env=False) as storage:
            put = await storage.put(ticket["upload_url"], content=data, headers=ticket["headers"])
        assert put.status_code == 200, put.text

    async def upload(self, spec: JobSpec, data: bytes = GLB, **ticket: Any) -> str:
        """Upload and commit a file; answers the artifact's id."""
        granted = (await self.ticket(spec, data, **ticket)).json()
        await self.put(granted, data)
        committed = await self.call(spec, "artifacts", {"ticket_id": granted["ticket_id"]})
        assert committed.status_code == 200, committed.text
        return str(committed.json()["artifact_id"])

    async def stream(self, spec: JobSpec, data: bytes = GLB, **changes: str) -> dict[str, Any]:
        """Upload a file in parts; the body of the call that completes it."""
        body = {"kind": "model_3d", "name": "model.glb", "media_type": "model/gltf-binary"}
        begun = await self.call(spec, "streams", {**body, **changes})
        assert begun.status_code == 200, begun.text
        ticket_id = begun.json()["ticket_id"]
        parts = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
        etags = []
        for url, part in zip(await self.parts(spec, ticket_id, len(parts)), parts, strict=True):
            async with httpx.AsyncClient(trust_env=False) as storage:
                put = await storage.put(url, content=part)
            assert put.status_code == 200, put.text
            etags.append(put.headers["ETag"].strip('"'))
        return {
            "ticket_id": ticket_id,
            "etags": etags,
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }

    async def parts(
        self, spec: JobSpec, ticket_id: str, count: int = 1, first: int = 1
    ) -> list[str]:
        """Where the parts of a streamed file go."""
        asked = {"ticket_id": ticket_id, "first": first, "count": count}
        answer = await self.call(spec, "streams/parts", asked)
        assert answer.status_code == 200, answer.text
        assert answer.json()["expires_at"].endswith("Z")
        return [str(url) for url in answer.json()["upload_urls"]]

    async def succeed(self, spec: JobSpec) -> httpx.Response:
        """Upload the shortest model there is and report success."""
        artifact = await self.upload(spec)
        return await self.call(
            spec, "finish", {"outcome": "succeeded", "artifact_ids": [artifact], "metrics": {}}
        )

    async def fail(
        self, spec: JobSpec, *, permanent: bool = False, message: str = "it broke"
    ) -> httpx.Response:
        """Report a failure."""
        return await self.call(
            spec,
            "finish",
            {
                "outcome": "failed",
                "code": "PIPELINE_ERROR",
                "message": message,
                "permanent": permanent,
            },
        )
