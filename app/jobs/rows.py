"""Jobs as asyncpg reads them, where the ORM would cost more than the rest (docs/decisions/)."""

import json
from typing import Any

import asyncpg

JOB_COLUMNS = """id, organisation_id, user_id, model_id, model_version, status, input_params,
    prompt, reproduces, cached_from, progress_percent, stage, message, cancel_requested_at,
    failures, max_attempts, error_code, error_message, error_permanent, created_at, started_at,
    completed_at, expires_at"""
"""What `JobOut.of` looks at, and who may see it."""


class JobRow(asyncpg.Record):  # type: ignore[misc]
    """A job's row with its columns as attributes, as the ORM has them."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError as error:
            raise AttributeError(name) from error
        return json.loads(value) if name == "input_params" else value
