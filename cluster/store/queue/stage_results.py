"""Stage results that a later attempt reuses: kept until the video is READY, fenced by its lease."""

from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from cluster.contracts.errors import LeaseLost
from cluster.contracts.results import Transcript
from cluster.contracts.stages import Stage
from cluster.store.postgres.connections import Pool

_TRANSCRIPT = TypeAdapter(Transcript)

_KEEP = """
INSERT INTO video_stage_results (video_id, stage, result)
SELECT video_id, %(stage)s, %(result)s FROM video_leases
WHERE video_id = %(video_id)s AND lease_token = %(token)s FOR KEY SHARE
ON CONFLICT (video_id, stage) DO UPDATE SET result = excluded.result, created_at = clock_timestamp()
"""


def keep(connection: Connection[object], video_id: UUID, lease_token: int, stage: Stage, result: object = None) -> None:
    """Write down that ``stage`` has its result, within the caller's transaction. Raises LeaseLost."""
    cursor = connection.execute(
        _KEEP,
        {
            "video_id": video_id,
            "token": lease_token,
            "stage": stage.value,
            "result": None if result is None else Jsonb(result),
        },
    )
    if cursor.rowcount == 0:
        raise LeaseLost(f"the lease was lost before the result of {stage} was kept")


class StageResults:
    """Keeps transcripts and finds them again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def keep_transcript(self, video_id: UUID, lease_token: int, transcript: Transcript) -> None:
        """Keep what was said in the video. Raises LeaseLost."""
        with self._pool.connection() as connection:
            keep(
                connection, video_id, lease_token, Stage.TRANSCRIPTION, _TRANSCRIPT.dump_python(transcript, mode="json")
            )

    def recall_transcript(self, video_id: UUID) -> Transcript:
        """The transcript that an earlier attempt kept.

        Raises:
            LookupError: none is kept.
        """
        with self._pool.connection() as connection:
            row = connection.execute(
                "SELECT result FROM video_stage_results WHERE video_id = %s AND stage = %s",
                (video_id, Stage.TRANSCRIPTION.value),
            ).fetchone()
        if row is None:
            raise LookupError(f"no transcript of {video_id} is kept")
        return _TRANSCRIPT.validate_python(row["result"])
