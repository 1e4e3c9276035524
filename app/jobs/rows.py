"""Jobs as asyncpg reads them, where the ORM would cost more than the rest (docs/decisions/)."""

import json
from operator import itemgetter

import asyncpg

_COLUMNS = (
    *("id", "organisation_id", "user_id", "model_id", "model_version", "status", "input_params"),
    *("prompt", "reproduces", "cached_from", "progress_percent", "stage", "message"),
    *("cancel_requested_at", "failures", "max_attempts", "error_code", "error_message"),
    *("error_permanent", "created_at", "started_at", "completed_at", "expires_at"),
)

JOB_COLUMNS = ", ".join(_COLUMNS)
"""What `JobOut.of` looks at, and who may see it."""


class JobRow(asyncpg.Record):  # type: ignore[misc]
    """A job's row with its columns as attributes, as the ORM has them."""


for _name in _COLUMNS:
    setattr(JobRow, _name, property(itemgetter(_name)))
JobRow.input_params = property(lambda row: json.loads(row["input_params"]))
