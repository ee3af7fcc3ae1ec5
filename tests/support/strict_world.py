"""Changes in an existing database, by column and row, and videos of ours beside its own."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from cluster.contracts.results import StageFailure
from cluster.contracts.stages import Blame
from cluster.contracts.videos import ClaimedVideo, Submission
from cluster.store.postgres.connections import Pool, connect
from cluster.store.queue.submissions import cancel, submit
from cluster.store.queue.video_queue import VideoQueue
from cluster.store.search.postgres_check import PostgresCheck
from cluster.store.videos.shown_status import SHOWN_STATUS
from tests.support.existing_database import CARA, GROWING, Snapshot, changes_between
from tests.support.queued_videos import finish
from tests.support.random_rows import Search, Video, World
from tests.support.searchable import TEXT, VISION, Scene, add_video

TIMES = (
    "queued_at", "processing_started_at", "processing_finished_at", "processing_duration_ms", "processing_stage",
)  # fmt: skip
STATE = frozenset({"status", "error_message", "updated_at", *TIMES})
"""Columns of ``videos`` that say how far a video is."""
PROCESSED = STATE | {"duration_s"}
"""Those that processing writes."""
TELLING_COLUMNS = (
    "full_transcript", "transcript_segments", "transcript_language", "video_summary", "has_rich_semantics",
    "thumbnail_url", "exif_metadata", "location_latitude", "location_longitude", "location_name", "camera_make",
    "camera_model",
)  # fmt: skip
"""Columns of an existing Heimdex whose contents are removed with a video."""
FORGOTTEN = PROCESSED | {"filename", *TELLING_COLUMNS}
"""Those that forgetting writes."""
OF_SCENES = ("video_scenes", "scene_exports", "scene_person_embeddings")
"""Their rows go with the scenes, by the existing system's own foreign keys."""

_CHANGED = re.compile(r"(\w+(?:\.\w+)?)\.(\w+) of (\S+) was ")
_GONE = re.compile(r"(\S+) (\S+) is gone")


def unexpected(
    before: Snapshot, after: Snapshot, written: Iterable[str] = (), of: Iterable[UUID] = (), scenes: bool = False
) -> list[str]:
    """The changes beside those to the columns ``written`` of the videos ``of``, and with ``scenes`` to their scenes.

    Where scenes go, so do the searches of these videos.
    """
    columns, videos = set(written), {str(video) for video in of}
    found = []
    for line in changes_between(before, after):
        changed, gone = _CHANGED.match(line), _GONE.match(line)
        if changed and changed[1] == "videos" and changed[2] in columns and changed[3] in videos:
            continue
        if (
            scenes
            and changed
            and changed[1] in {"video_scenes", "search_queries"}
            and _video_of(before, changed[1], changed[3]) in videos
        ):
            continue
        if scenes and gone and gone[1] in OF_SCENES and _video_of(before, gone[1], gone[2]) in videos:
            continue
        found.append(line)
    return found


def shape_changes(before: Snapshot, after: Snapshot) -> list[str]:
    """Changes of tables' columns and of ``video_status``' labels; our own columns of ``video_scenes`` may be new."""
    empty: dict[str, dict[str, dict[str, str | None]]] = {table: {} for table in before.rows}
    return changes_between(replace(before, rows=empty), replace(after, rows=empty))


def added(before: Snapshot, after: Snapshot) -> dict[str, int]:
    """Number of new rows, by table; tables without any are left out."""
    return Counter({table: len(after.rows[table].keys() - before.rows[table].keys()) for table in GROWING}) + Counter()


def _video_of(snapshot: Snapshot, table: str, key: str) -> str | None:
    row = snapshot.rows[table][key]
    return row["video_id"] if "video_id" in row else _video_of(snapshot, "video_scenes", str(row["scene_id"]))


def own(number: int) -> UUID:
    """A video that was submitted here by Cara, who owns READY ones of the existing system."""
    return UUID(int=0xC00 + number)


WAITING, CANCELLED, FAILED, FINISHED = (range(first, first + 8) for first in range(0, 32, 8))
"""Numbers of Cara's videos of ours, eight in each state."""


def add_own(pool: Pool, url: str, vision: str = VISION.key, text: str = TEXT.key) -> list[UUID]:
    """Index the existing words, and add Cara's: scenes to be found, whose ids are returned, and eight of each state.

    ``vision``, ``text``: whose vectors the scenes have, as far as the database knows.
    """
    PostgresCheck(pool, url).repair()
    said = [Scene("the tide at noon", "red", ("sea",)), Scene("a ship", "blue", ("sea",))]
    found = add_video(pool, CARA, said, vision=vision, text=text)
    with pool.connection() as connection:
        connection.execute(
            "UPDATE videos SET processing_finished_at = now() "
            "WHERE id = (SELECT video_id FROM video_scenes WHERE id = %s)",
            (found[0],),
        )
    queue = VideoQueue(pool, "strict", 600.0)
    for number in FINISHED:
        finish(queue, claim_own(pool, queue, number))
    for number in FAILED:
        queue.fail(claim_own(pool, queue, number), "metadata", StageFailure("InvalidVideo", "no video", Blame.VIDEO))
    _submit(pool, [*CANCELLED, *WAITING])
    cancel(pool, [own(number) for number in CANCELLED])
    return found


def claim_own(pool: Pool, queue: VideoQueue, number: int) -> ClaimedVideo:
    """Submit and claim Cara's video of this number."""
    _submit(pool, [number])
    (video,) = queue.claim(1)
    assert video.id == own(number)
    return video


def _submit(pool: Pool, numbers: Iterable[int]) -> None:
    chosen = list(numbers)
    videos = [Submission(uri=f"s3://ours/{number}.mp4") for number in chosen]
    submit(pool, CARA, videos, [own(number) for number in chosen])


def read_world(url: str) -> World:
    """All rows that the admin figures are made of, for the reference."""
    columns = ", ".join(f"v.{name}" for name in Video.__dataclass_fields__ if name != "status")
    with connect(url) as connection:
        now = connection.execute("SELECT clock_timestamp() AS now").fetchall()[0]["now"]
        videos = connection.execute(
            f"SELECT {columns}, {SHOWN_STATUS} AS status "
            "FROM videos AS v LEFT JOIN video_processing AS p ON p.video_id = v.id"
        ).fetchall()
        searches = connection.execute(f"SELECT {', '.join(Search.__dataclass_fields__)} FROM search_queries").fetchall()
        names = connection.execute("SELECT user_id, full_name FROM user_profiles").fetchall()
    return World(
        now,
        {row["user_id"]: row["full_name"] for row in names},
        [Video(**row) for row in videos],
        [Search(**row) for row in searches],
    )
