"""Erases an owner step by step: work stops, files, pictures and documents go, then the rows.

Cut off, it is begun again and goes on with what is left. What a row refers to is removed before the row, and what is
stored outside the database before the record that it is there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from cluster.contracts.audit import command_line
from cluster.contracts.counts import counted
from cluster.contracts.errors import InvalidVideo, RefusedByDatabase, SearchUnavailable, TransientFailure
from cluster.contracts.videos import Origin
from cluster.files.fetch_limits import fetch_limits
from cluster.files.origins import limits_for
from cluster.files.scene_pictures import ScenePictures
from cluster.files.stored_files import remove_file
from cluster.settings import Settings
from cluster.store.opensearch.client import open_client
from cluster.store.opensearch.sync import IndexFollower
from cluster.store.postgres.audit_log import Trail
from cluster.store.postgres.connections import Pool
from cluster.store.videos.deletion import ForgottenPictures, forget
from cluster.store.videos.erasing import OwnersVideo, erase_rest, erase_videos, next_videos

VIDEOS_AT_ONCE = 100
Say = Callable[[str], None]


@dataclass
class Erased:
    """What is gone, and what went wrong, each a sentence."""

    videos: int = 0
    searches: int = 0
    troubles: list[str] = field(default_factory=list)


def erase(pool: Pool, settings: Settings, owner_id: UUID, say: Say, *, with_file: bool) -> Erased:
    """Erase all of the owner's that can be erased now; ``say`` is given the progress.

    ``with_file``: the video files too; a video whose file cannot be removed now stays.
    """
    erased, after = Erased(), UUID(int=0)
    while videos := next_videos(pool, owner_id, after, VIDEOS_AT_ONCE, with_file=with_file):
        after = videos[-1].id
        if with_file:
            videos = _without_files(settings, owner_id, videos, erased.troubles)
        erased.videos += _erase_videos(pool, settings, owner_id, [video.id for video in videos], erased.troubles)
        say(f"erased {counted(erased.videos, 'video')}")
    erased.searches = erase_rest(pool, owner_id, Trail(command_line()), erased.videos)
    return erased


def _without_files(
    settings: Settings, owner_id: UUID, videos: Sequence[OwnersVideo], troubles: list[str]
) -> list[OwnersVideo]:
    """Remove the videos' files; returns the videos that may be erased now. Another owner's videos keep their file.

    What would not be fetched for such a submission is not removed for it either.
    """
    limits = fetch_limits(settings)
    gone = []
    for video in videos:
        try:
            if video.uri and not video.shared:
                limits_for(video.uri, Origin(video.origin), owner_id, limits)
                remove_file(video.uri, limits.storage_root, owner_id)
        except InvalidVideo as error:  # it never can be from here
            troubles.append(f"the file of video {video.id} stays: {error}")
        except TransientFailure as error:
            troubles.append(f"video {video.id} stays: {error}")
            continue
        gone.append(video)
    return gone


def _erase_videos(pool: Pool, settings: Settings, owner_id: UUID, ids: list[UUID], troubles: list[str]) -> int:
    forget(pool, ids, owner_id, without_file=ids)
    _remove_pictures(pool, settings, ids, troubles)
    if settings.search_engine is not None:
        try:
            IndexFollower(pool, open_client(settings.search_engine)).follow_all(ids)
        except SearchUnavailable as error:
            troubles.append(
                f"the documents of {counted(len(ids), 'video')} are removed by the cluster that is up: {error}"
            )
    try:
        return erase_videos(pool, owner_id, ids)
    except RefusedByDatabase:  # by one of them: the others are not to stay for it
        return sum(_counted(partial(erase_videos, pool, owner_id, [video_id]), troubles) for video_id in ids)


def _counted(erase_one: Callable[[], int], troubles: list[str]) -> int:
    try:
        return erase_one()
    except RefusedByDatabase as error:
        troubles.append(str(error))
        return 0


def _remove_pictures(pool: Pool, settings: Settings, ids: Sequence[UUID], troubles: list[str]) -> None:
    pictures, due = ScenePictures(settings.resolved_scenes_url), ForgottenPictures(pool)
    for video_id in ids:
        try:
            pictures.remove(video_id)
        except TransientFailure as error:
            troubles.append(f"{error}; the cluster that is up tries again")
        else:
            due.note_removed(video_id)
