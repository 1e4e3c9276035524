"""What users see of a busy platform: every job of many ends, and nobody waits for a noisy one."""

import asyncio
import hashlib
import struct
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import httpx
from load.bench_stack import JOBS, MODEL, PIPELINE, BenchStack
from redis.asyncio import Redis

from app.db.base import new_id
from contract.attempts import ATTEMPT_TOKEN_HEADER

WORKERS = 8
CLIENTS = 100
UPLOAD_BYTES = 5 << 20
QUIET_USERS = 20
QUIET_JOBS = 10
NOISY_JOBS = 10_000
RUN_SECONDS = 0.1
WAIT_FACTOR = 2.0
PATIENCE_SECONDS = 120.0

_GLB = b"glTF" + (2).to_bytes(4, "little") + (12).to_bytes(4, "little")
_FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


class _Workers:
    """Workers of the `cpu` queue, played by hand: they take tasks from Redis and speak the API."""

    def __init__(self, stack: BenchStack, run_seconds: float, *, upload: bool) -> None:
        self._run_seconds = run_seconds
        self._upload = upload
        self._redis = Redis.from_url(stack.redis_url)
        self._api = httpx.AsyncClient(
            base_url=f"{stack.url}/worker/v1",
            headers={"x-api-key": stack.worker_key},
            trust_env=False,
            timeout=60,
        )

    async def work(self, number: int) -> None:
        """One worker: report, then take and run whatever comes."""
        reported_at = 0.0
        while True:
            if time.monotonic() - reported_at > 20:
                await self._report(f"bench-{number}")
                reported_at = time.monotonic()
            taken = await self._redis.blpop(["rq:queue:cpu"], timeout=1)
            if taken:
                await self._run(f"bench-{number}", taken[1].decode())

    async def _report(self, name: str) -> None:
        pipeline = {"name": PIPELINE, "version": "1", "runnable": True, "warm": True}
        answer = await self._api.post(
            "/workers/heartbeat",
            json={
                "name": name,
                "hostname": "bench",
                "version": "0",
                "queue": "cpu",
                "started_at": "2026-01-01T00:00:00Z",
                "cpu_count": 1,
                "memory_total_mib": 1024,
                "pipelines": [pipeline],
                "stopping": False,
            },
        )
        answer.raise_for_status()

    async def _run(self, name: str, attempt_id: str) -> None:
        path = f"/attempts/{attempt_id}"
        claim = {"worker_name": name, "claim_id": str(uuid4())}
        claimed = await self._api.post(f"{path}/claim", json=claim)
        if claimed.status_code in {404, 409, 410}:
            return  # pushed twice, or of an earlier part of this bench
        claimed.raise_for_status()
        headers = {ATTEMPT_TOKEN_HEADER: claimed.json()["attempt_token"]}
        await asyncio.sleep(self._run_seconds)
        report = {"outcome": "failed", "code": "BENCH", "message": "done", "permanent": True}
        if self._upload:
            artifact = await self._make_artifact(path, headers)
            report = {"outcome": "succeeded", "artifact_ids": [artifact], "metrics": {}}
        finished = await self._api.post(f"{path}/finish", json=report, headers=headers)
        finished.raise_for_status()

    async def _make_artifact(self, path: str, headers: dict[str, str]) -> str:
        wanted = {
            "kind": "model_3d",
            "name": "model.glb",
            "media_type": "model/gltf-binary",
            "size_bytes": len(_GLB),
            "sha256": hashlib.sha256(_GLB).hexdigest(),
        }
        ticket = await self._api.post(f"{path}/upload-tickets", json=wanted, headers=headers)
        ticket.raise_for_status()
        granted = ticket.json()
        async with httpx.AsyncClient(trust_env=False, timeout=60) as storage:
            put = await storage.put(granted["upload_url"], content=_GLB, headers=granted["headers"])
            put.raise_for_status()
        body = {"ticket_id": granted["ticket_id"]}
        committed = await self._api.post(f"{path}/artifacts", json=body, headers=headers)
        committed.raise_for_status()
        return str(committed.json()["artifact_id"])

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._api.aclose()


@asynccontextmanager
async def _workers(
    stack: BenchStack, run_seconds: float, *, upload: bool = False
) -> AsyncIterator[None]:
    workers = _Workers(stack, run_seconds, upload=upload)
    tasks = [asyncio.create_task(workers.work(number)) for number in range(WORKERS)]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()  # a worker that broke spoils the measurement
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await workers.close()


def _picture() -> bytes:
    """A PNG of so many bytes: what comes after its end is nobody's business."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(65 * 64)))
    png = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
    return png + bytes(UPLOAD_BYTES - len(png))


async def _upload_and_create(
    stack: BenchStack, storage: httpx.AsyncClient, key: str, picture: bytes, digest: str
) -> str | None:
    """One client: ticket, upload, job, then polls to the end; the last status, None if refused."""
    async with httpx.AsyncClient(
        base_url=stack.url,
        headers={"x-api-key": key},
        trust_env=False,
        timeout=120,
        # The upload may take longer than the server keeps a connection.
        limits=httpx.Limits(max_keepalive_connections=0),
    ) as api:
        promise = {"filename": "a.png", "content_type": "image/png", "sha256": digest}
        granted = (await api.post(f"{JOBS}/upload-ticket", json=promise)).json()
        put = await storage.put(granted["upload_url"], content=picture, headers=granted["headers"])
        put.raise_for_status()
        params = {"image_path": granted["object_name"]}
        answer = await api.post(f"{JOBS}/", json={"model_id": MODEL, "input_params": params})
        if answer.status_code != 201:
            print(answer.text)
            return None
        path = answer.headers["location"]
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            status: str = (await api.get(path)).json()["status"]
            if status in _FINAL or time.monotonic() > until:
                return status
            await asyncio.sleep(0.5)


async def measure_uploads(stack: BenchStack) -> bool:
    """Many clients at once, each uploading and creating; whether all jobs were done."""
    users = await stack.make_users(CLIENTS)
    picture = _picture()
    digest = hashlib.sha256(picture).hexdigest()
    start = time.perf_counter()
    limits = httpx.Limits(max_connections=CLIENTS)
    async with (
        _workers(stack, 0.0, upload=True),
        httpx.AsyncClient(trust_env=False, timeout=120, limits=limits) as storage,
    ):
        ends = await asyncio.gather(
            *(_upload_and_create(stack, storage, key, picture, digest) for _, key in users)
        )
    seconds = time.perf_counter() - start
    accepted = sum(end is not None for end in ends)
    done = ends.count("SUCCEEDED")
    met = done == CLIENTS
    print("\n| clients at once | uploaded each | accepted | finished | seconds in all | |")
    print("|---:|---:|---:|---:|---:|---|")
    print(
        f"| {CLIENTS} | {UPLOAD_BYTES >> 20} MiB | {accepted} | {done} | {seconds:.1f} | "
        f"{'met' if met else 'MISSED'} |",
        flush=True,
    )
    return met


async def _quiet_user(stack: BenchStack, key: str) -> None:
    async with httpx.AsyncClient(
        base_url=stack.url, headers={"x-api-key": key}, trust_env=False, timeout=60
    ) as api:
        for _ in range(QUIET_JOBS):
            answer = await api.post(f"{JOBS}/", json={"model_id": MODEL})
            answer.raise_for_status()
            path = answer.headers["location"]
            until = time.monotonic() + PATIENCE_SECONDS
            while (await api.get(path)).json()["status"] not in _FINAL:
                if time.monotonic() > until:
                    raise SystemExit("a quiet user's job did not end")
                await asyncio.sleep(0.25)


async def _quiet_waits(stack: BenchStack) -> list[float]:
    """The waits of quiet users' jobs, from creation to claim, in seconds."""
    users = await stack.make_users(QUIET_USERS)
    await asyncio.gather(*(_quiet_user(stack, key) for _, key in users))
    connection = await asyncpg.connect(stack.dsn)
    try:
        rows = await connection.fetch(
            "SELECT extract(epoch FROM started_at - created_at)::float8 AS wait FROM jobs "
            "WHERE user_id = ANY($1)",
            [user_id for user_id, _ in users],
        )
    finally:
        await connection.close()
    return sorted(row["wait"] for row in rows)


async def _make_noise(stack: BenchStack) -> None:
    """Queue a great many jobs of one user, as if created one by one."""
    [(user_id, _)] = await stack.make_users(1)
    connection = await asyncpg.connect(stack.dsn)
    try:
        await connection.execute(
            "INSERT INTO jobs (id, organisation_id, user_id, model_id, model_version, queue, "
            "status, input_params, max_attempts) SELECT job_id, u.organisation_id, u.id, $2, '1', "
            "'cpu', 'QUEUED', '{}', 1 FROM users u, unnest($3::uuid[]) AS job_id WHERE u.id = $1",
            user_id,
            MODEL,
            [new_id() for _ in range(NOISY_JOBS)],
        )
        await connection.execute(
            "INSERT INTO user_queue (user_id, queue, model_id, ready_at) "
            "VALUES ($1, 'cpu', $2, now())",
            user_id,
            MODEL,
        )
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


async def measure_fairness(stack: BenchStack) -> bool:
    """Quiet users alone, then beside a noisy one; whether they wait about as long."""
    p99s: list[float] = []
    print("\n| quiet users' wait | jobs | p50 s | p99 s | of the empty system | at most | |")
    print("|---|---:|---:|---:|---:|---:|---|")
    async with _workers(stack, RUN_SECONDS):
        for name in ("empty system", f"beside {NOISY_JOBS} queued jobs of one user"):
            if p99s:
                await _make_noise(stack)
                await asyncio.sleep(2)
            waits = await _quiet_waits(stack)
            p99s.append(waits[int(len(waits) * 0.99)])
            line = f"| {name} | {len(waits)} | {waits[len(waits) // 2]:.2f} | {p99s[-1]:.2f} |"
            if len(p99s) == 1:
                print(f"{line} - | - | |", flush=True)
    factor = p99s[1] / p99s[0]
    met = factor <= WAIT_FACTOR
    print(f"{line} {factor:.2f} | {WAIT_FACTOR:.0f} | {'met' if met else 'MISSED'} |", flush=True)
    return met
