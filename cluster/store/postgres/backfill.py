"""Gives videos from before the timing columns a finish time: their ``updated_at``, and nothing else.

Everything that cannot be known (start, duration, queue time, stage) stays null.
"""

from psycopg import errors

from cluster.contracts.errors import ConfigurationError
from cluster.store.postgres.connections import Pool
from cluster.store.postgres.update_triggers import without_update_triggers

BATCH_ROWS = 10_000

_COUNT = """
SELECT count(*) AS videos FROM public.videos
WHERE processing_finished_at IS NULL AND status IN ('READY', 'FAILED') AND updated_at IS NOT NULL
"""

# Count what was written, and what came out other than intended.
_FILL_BATCH = """
WITH batch AS (
    SELECT id, updated_at FROM public.videos
    WHERE processing_finished_at IS NULL AND status IN ('READY', 'FAILED') AND updated_at IS NOT NULL
    LIMIT %s
    FOR UPDATE
), filled AS (
    UPDATE public.videos AS v SET processing_finished_at = batch.updated_at
    FROM batch WHERE v.id = batch.id
    RETURNING v.updated_at = batch.updated_at AND v.processing_finished_at = batch.updated_at AS as_intended
)
SELECT count(*) AS videos, count(*) FILTER (WHERE as_intended IS NOT TRUE) AS wrong FROM filled
"""


def backfill_finish_times(pool: Pool, dry_run: bool) -> int:
    """Sets ``processing_finished_at = updated_at`` for READY and FAILED videos without one; returns how many.

    With ``dry_run`` it counts and changes nothing. A second run changes nothing. Works in batches, each
    committed: when it is interrupted, run it again. Raises ConfigurationError when the session may not
    disable the table's triggers (they would move ``updated_at``, the very value that is copied) or when
    ``updated_at`` moved nevertheless.
    """
    try:
        if dry_run:
            with pool.connection() as connection:
                return int(connection.execute(_COUNT).fetchall()[0]["videos"])
        return _fill_all(pool)
    except (errors.UndefinedColumn, errors.UndefinedTable):
        raise ConfigurationError("the timing columns are missing: run heimdex migrate first") from None
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"the backfill must run as the owner of the table videos: {error.diag.message_primary}"
        ) from error


def _fill_all(pool: Pool) -> int:
    filled = 0
    while True:
        with pool.connection() as connection, without_update_triggers(connection):
            row = connection.execute(_FILL_BATCH, [BATCH_ROWS]).fetchall()[0]
            if row["wrong"]:
                raise ConfigurationError(
                    "something in this database changes updated_at or processing_finished_at while they are "
                    f"written ({row['wrong']} videos): this batch was rolled back"
                )
        if row["videos"] == 0:
            return filled
        filled += int(row["videos"])
