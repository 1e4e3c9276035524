"""The report of a success: one statement commits what came with it, and ends attempt and job.

It is a gate like `move_job`, for this one transition: a compare-and-set that checks the fence and
writes the events in the same moment. As one statement it is a transaction of its own and a single
round trip (docs/decisions/0020).
"""

import json
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.artifacts.commits import CHECKED_TICKETS, CheckedObject, checked_values
from app.artifacts.errors import TicketNotFoundError
from app.db.session import Database
from app.db.signals import Channel, Signal
from app.jobs.errors import ResultIncompleteError
from app.jobs.fence import RunningAttempt
from app.jobs.lifecycle import (
    AttemptStatus,
    JobStatus,
    check_attempt_transition,
    check_job_transition,
)
from app.jobs.outcomes import hash_of
from app.jobs.repository import due_now
from contract.attempts import AttemptSucceeded, FinishReply

# Locked in the order job, attempt, tickets, the user's places: each part needs the one before it.
# A checkpoint that comes only now is not made an artifact: nobody will go on from it.
_SUCCEED = text(f"""
WITH found AS MATERIALIZED (
    SELECT job.id, job.model_id, job.cancel_requested_at, model.main_artifact,
        coalesce(organisation.retention_days, model.retention_days) AS retention_days
    FROM attempts attempt
    JOIN jobs job ON job.id = attempt.job_id
    JOIN models model ON model.id = job.model_id
    JOIN organisations organisation ON organisation.id = job.organisation_id
    WHERE attempt.id = :attempt_id AND attempt.claim_id = :claim_id
      AND attempt.status = 'RUNNING' AND job.status = 'RUNNING'
      AND job.current_attempt_id = attempt.id
    FOR UPDATE OF job, attempt
), {CHECKED_TICKETS}, named AS (
    SELECT * FROM unnest(CAST(:named AS uuid[])) WITH ORDINALITY AS t (id, place)
), present AS MATERIALIZED (
    SELECT id, kind FROM artifacts WHERE attempt_id = :attempt_id
    UNION SELECT id, kind FROM kept
), verdict AS MATERIALIZED (
    SELECT found.*,
        (SELECT count(*) FROM kept) = (SELECT count(*) FROM checked) AS whole,
        ARRAY(
            SELECT id FROM named WHERE id NOT IN (SELECT id FROM present) ORDER BY place
        ) AS missing,
        (
            SELECT named.id FROM named JOIN present USING (id)
            WHERE present.kind = found.main_artifact ORDER BY named.place LIMIT 1
        ) AS main
    FROM found
), job_ended AS (
    UPDATE jobs SET status = 'SUCCEEDED', slot = NULL, main_artifact_id = verdict.main,
        progress_percent = 100, stage = 'finished',
        message = CASE WHEN verdict.cancel_requested_at IS NOT NULL
            THEN 'It had finished before the cancellation reached the worker.' END,
        completed_at = now(),
        expires_at = now() + make_interval(days => verdict.retention_days)
    FROM verdict
    WHERE jobs.id = verdict.id AND whole AND missing = '{{}}' AND main IS NOT NULL
    RETURNING jobs.id, jobs.user_id
), attempt_ended AS (
    UPDATE attempts SET status = 'SUCCEEDED', finished_at = now(), report_hash = :report_hash,
        metrics = CAST(:metrics AS jsonb)
    FROM job_ended WHERE attempts.id = :attempt_id
), kept_for_good AS (
    UPDATE upload_tickets ticket SET keep_until = NULL, upload_id = NULL
    FROM kept CROSS JOIN job_ended
    WHERE ticket.id = kept.id AND kept.kind <> 'checkpoint'
), made AS (
    INSERT INTO artifacts (id, job_id, attempt_id, kind, name, media_type, size_bytes, sha256,
        etag, object_key)
    SELECT kept.id, job_ended.id, attempt_id, kind, name, media_type, size_bytes, sha256, etag,
        object_key
    FROM kept CROSS JOIN job_ended WHERE kind <> 'checkpoint'
    ON CONFLICT DO NOTHING
    RETURNING id, kind, name
), outdated AS (
    DELETE FROM artifacts USING job_ended WHERE job_id = job_ended.id AND kind = 'checkpoint'
    RETURNING object_key
), let_go AS (
    UPDATE upload_tickets ticket SET keep_until = now() FROM outdated
    WHERE ticket.object_key = outdated.object_key
), events AS (
    SELECT kept.place, CASE made.kind WHEN 'preview' THEN 'preview.added' ELSE 'artifact.added' END
            AS type,
        jsonb_build_object('artifact_id', made.id, 'name', made.name, 'kind', made.kind) AS data
    FROM made JOIN kept USING (id)
    UNION ALL SELECT NULL, 'job.succeeded',
        jsonb_build_object('status', 'SUCCEEDED', 'artifacts', cardinality(CAST(:named AS uuid[])))
), recorded AS (
    INSERT INTO job_events (job_id, attempt_id, type, data)
    SELECT job_ended.id, :attempt_id, type, data FROM events CROSS JOIN job_ended
    ORDER BY place NULLS LAST
), {due_now("(SELECT user_id FROM job_ended)")}
SELECT whole, missing, main, model_id, main_artifact, ARRAY(SELECT queue FROM due) AS queues
FROM verdict
""")  # noqa: S608  (constants of ours)


async def succeed(
    database: Database,
    attempt: RunningAttempt,
    report: AttemptSucceeded,
    objects: Sequence[CheckedObject],
) -> FinishReply | None:
    """End a job with its result: the first artifact of the model's main kind that the report names.

    `objects` are files that came with the report; they become artifacts in the same moment. The
    job's checkpoints are of no use any more.

    Returns:
        The answer, or None if the attempt does not run any more; nothing has changed then.

    Raises:
        TicketNotFoundError: a ticket has been asked for again meanwhile, for another content, or
            its object is not kept any more; nothing has changed.
        ResultIncompleteError: what the report names was not committed, or the main one is missing;
            nothing has changed.
    """
    async with database.statements() as connection:
        queues = await end_with_success(connection, attempt, report, objects)
    if queues is None:
        return None
    database.signals.send(Signal(Channel.JOB_CHANGED, str(attempt.job_id)))
    for queue in queues:
        database.signals.send(Signal(Channel.WORK_READY, queue))
    return FinishReply(job_status=JobStatus.SUCCEEDED)


async def end_with_success(
    connection: AsyncConnection,
    attempt: RunningAttempt,
    report: AttemptSucceeded,
    objects: Sequence[CheckedObject] = (),
) -> list[str] | None:
    """As `succeed`, on a connection of the caller's, who wakes whoever is to be woken.

    Returns:
        The queues in which the job's user waits; None if the attempt does not run any more.

    Raises:
        TicketNotFoundError, ResultIncompleteError: as `succeed`.
    """
    check_attempt_transition(AttemptStatus.RUNNING, AttemptStatus.SUCCEEDED)
    check_job_transition(JobStatus.RUNNING, JobStatus.SUCCEEDED)
    row = (
        await connection.execute(
            _SUCCEED,
            {
                "attempt_id": attempt.id,
                "claim_id": attempt.claim_id,
                "named": report.artifact_ids,
                "report_hash": hash_of(report),
                "metrics": json.dumps(report.metrics),
                **checked_values(objects),
            },
        )
    ).one_or_none()
    if row is None:
        return None
    if not row.whole:
        raise TicketNotFoundError
    if row.missing:
        raise ResultIncompleteError(
            f"Not committed by this attempt: {', '.join(map(str, row.missing[:5]))}. "
            "Upload and commit every artifact before reporting success."
        )
    if row.main is None:
        raise ResultIncompleteError(
            f"The report has no artifact of kind {row.main_artifact}, "
            f"which is what {row.model_id} makes."
        )
    return list(row.queues)
