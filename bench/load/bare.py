"""The limits: what a route costs that does nothing but one statement. Started by `bench_api.py`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
from fastapi import FastAPI, Request, Response


async def _no_reset(_: object) -> None:
    """Spare it the second round trip that asyncpg's pool makes for every release."""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    dsn = os.environ["BARE_DSN"]
    async with asyncpg.create_pool(dsn, min_size=16, max_size=16, reset=_no_reset) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.get("/jobs/{job_id}")
async def select(job_id: UUID) -> Response:
    """One primary-key select and hand-made JSON."""
    row = await app.state.pool.fetchrow(
        "SELECT id, model_id, status, progress_percent, created_at FROM jobs WHERE id = $1", job_id
    )
    body = (
        f'{{"id":"{row["id"]}","model_id":"{row["model_id"]}","status":"{row["status"]}",'
        f'"progress_percent":{row["progress_percent"]},'
        f'"created_at":"{row["created_at"].isoformat()}"}}'
    )
    return Response(body, media_type="application/json")


@app.post("/jobs/")
async def insert(request: Request) -> Response:
    """One insert of what was sent, and hand-made JSON."""
    job_id = uuid4()
    body = (await request.body()).decode()
    await app.state.pool.execute(
        "INSERT INTO bare_jobs (id, body) VALUES ($1, $2::jsonb)", job_id, body
    )
    return Response(f'{{"id":"{job_id}"}}', status_code=201, media_type="application/json")
