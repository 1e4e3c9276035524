"""Tables with very many jobs, made by the database itself: for plans, and for `bench/`.

Most jobs have ended, one in a hundred waits; a few users have most of them. What is active is
bounded by the workers there are, so it does not grow.
"""

from typing import Any
from uuid import UUID

USERS = 2000
WORKERS = 8
ACTIVE = 8

_PEOPLE = """
INSERT INTO organisations (id, name) SELECT uuidv7(), 'many-' || i FROM generate_series(1, 20) i;
INSERT INTO users (id, organisation_id, username, password_hash, role)
SELECT uuidv7(), (SELECT id FROM organisations WHERE name = 'many-' || (i % 20 + 1)),
    'many-' || i, '', 'operator'
FROM generate_series(1, {users}) i;
INSERT INTO workers (name, hostname, version, queue, started_at, last_seen_at, cpu_count,
    memory_total_mib, gpus, versions, pipelines, runnable, warm)
SELECT 'many-' || i, 'many', '0', 'cpu', now(), now() + interval '1 day', 1, 1024, '[]', '{{}}',
    '[]', '{{inflate}}', '{{}}'
FROM generate_series(1, {workers}) i;
CREATE TABLE many_users AS
SELECT (row_number() OVER ())::int - 1 AS number, id, organisation_id FROM users
WHERE username LIKE 'many-%';
ALTER TABLE many_users ADD PRIMARY KEY (number);
INSERT INTO user_queue (user_id, queue, model_id)
SELECT id, queue, model_id
FROM many_users, (VALUES ('cpu', 'inflate-v1'), ('gpu', 'dreamfusion-sd')) AS m (queue, model_id);
"""

# Ages in seconds: 30 s from one job to the next. Every other model and user is drawn by chance.
_JOBS = """
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT uuidv7(-age) AS id, now() - age AS created_at, drawn.*,
    CASE WHEN status IN ('SUCCEEDED', 'FAILED') THEN uuidv7(-age) END AS attempt_id
FROM (
    SELECT i, ({until} - i) * interval '30 seconds' + interval '1 minute' AS age,
        floor(power(random(), 3) * {users})::int AS number,
        CASE WHEN i % 4 = 0 THEN 'dreamfusion-sd' ELSE 'inflate-v1' END AS model_id,
        CASE WHEN i % 4 = 0 THEN 'gpu' ELSE 'cpu' END AS queue,
        CASE WHEN i % 100 = 7 THEN 'QUEUED' WHEN i % 100 < 5 THEN 'FAILED'
            WHEN i % 100 < 10 THEN 'CANCELLED' WHEN i % 100 < 15 THEN 'EXPIRED'
            ELSE 'SUCCEEDED' END AS status
    FROM generate_series({since}, {until} - 1) i
) drawn;

INSERT INTO jobs (id, organisation_id, user_id, model_id, model_version, queue, status,
    input_params, max_attempts, created_at, available_at, started_at, completed_at, expires_at,
    error_code, current_attempt_id, idempotency_key, request_hash)
SELECT made.id, u.organisation_id, u.id, model_id, '1', queue, status,
    '{{"seed": 7, "texture_resolution": 1024, "image_path": "uploads/a/b/picture.png"}}', 3,
    created_at, created_at,
    CASE WHEN attempt_id IS NOT NULL THEN created_at END,
    CASE WHEN status <> 'QUEUED' THEN created_at END,
    CASE WHEN status <> 'QUEUED' THEN now() + interval '7 days' END,
    CASE WHEN status = 'FAILED' THEN 'MANY' END,
    attempt_id,
    CASE WHEN i % 3 = 0 THEN made.id::text END, CASE WHEN i % 3 = 0 THEN 'hash' END
FROM made JOIN many_users u USING (number) ORDER BY i;

INSERT INTO attempts (id, job_id, model_id, queue, number, status, time_limit_seconds,
    dispatched_at, started_at, finished_at)
SELECT attempt_id, id, model_id, queue, 1, status, 600, created_at, created_at,
    created_at + interval '1 second'
FROM made WHERE attempt_id IS NOT NULL ORDER BY i;

INSERT INTO job_events (job_id, attempt_id, type)
SELECT id, CASE WHEN last THEN attempt_id END,
    CASE WHEN last THEN 'job.' || lower(status) ELSE 'job.created' END
FROM made, unnest(ARRAY[false, true]) AS last WHERE status <> 'QUEUED' OR NOT last ORDER BY i;

INSERT INTO artifacts (id, job_id, attempt_id, kind, name, media_type, size_bytes, etag, object_key)
SELECT uuidv7(), id, attempt_id, 'preview', 'front.png', 'image/png', 1, '', 'many/' || i
FROM made WHERE status = 'SUCCEEDED' ORDER BY i;

INSERT INTO upload_tickets (id, user_id, object_key, kind, name, media_type, expires_at, keep_until)
SELECT uuidv7(), u.id, 'many/' || i, 'input', 'a.png', 'image/png', created_at,
    CASE WHEN i % 50 = 0 THEN now() + interval '1 day' END
FROM made JOIN many_users u USING (number);

UPDATE user_queue SET ready_at = now()
FROM made JOIN many_users u USING (number)
WHERE status = 'QUEUED' AND user_queue.user_id = u.id AND user_queue.model_id = made.model_id;
"""

# The last of the waiting jobs are with workers: half dispatched, half running.
_ACTIVE = """
UPDATE jobs SET slot = 1, current_attempt_id = uuidv7(), status = 'QUEUED'
WHERE id IN (
    SELECT max(id::text)::uuid FROM jobs
    WHERE status = 'QUEUED' AND slot IS NULL AND queue = 'cpu'
      AND user_id NOT IN (SELECT user_id FROM jobs WHERE slot IS NOT NULL)
    GROUP BY user_id ORDER BY 1 LIMIT {missing}
);
INSERT INTO attempts (id, job_id, model_id, queue, number, status, time_limit_seconds)
SELECT current_attempt_id, id, model_id, queue, 1, 'DISPATCHED', 600 FROM jobs
WHERE slot IS NOT NULL AND NOT EXISTS (SELECT FROM attempts a WHERE a.id = current_attempt_id);
"""


# The triggers, which are off, would have counted so.
_USAGE = """
INSERT INTO user_usage (user_id, queued_jobs, storage_bytes)
SELECT id, (SELECT count(*) FROM jobs WHERE user_id = u.id AND status = 'QUEUED'),
    (SELECT coalesce(sum(size_bytes), 0) FROM upload_tickets WHERE user_id = u.id)
FROM many_users u
ON CONFLICT (user_id) DO UPDATE
SET queued_jobs = excluded.queued_jobs, storage_bytes = excluded.storage_bytes
"""


async def make_many_jobs(connection: Any, since: int, until: int) -> None:
    """Fill the tables up from so many jobs to so many.

    Args:
        connection: asyncpg's, of the database's owner; the catalog must be there.
        since: how many there are; at 0 the users and workers are made, too.
        until: how many there are to be.
    """
    async with connection.transaction():
        # Every reference is right by construction; checking each would take most of the time.
        await connection.execute("SET LOCAL session_replication_role = replica")
        if not since:
            await connection.execute(_PEOPLE.format(users=USERS, workers=WORKERS))
        await connection.execute(_JOBS.format(since=since, until=until, users=USERS))
        held = await connection.fetchval("SELECT count(*) FROM jobs WHERE slot IS NOT NULL")
        await connection.execute(_ACTIVE.format(missing=ACTIVE - held))
        await connection.execute(_USAGE)
    await connection.execute("VACUUM ANALYZE")


async def busiest_user(connection: Any) -> tuple[UUID, UUID]:
    """The user with the most jobs, and their organisation."""
    row = await connection.fetchrow("SELECT id, organisation_id FROM many_users WHERE number = 0")
    return row["id"], row["organisation_id"]
