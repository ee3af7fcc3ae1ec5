"""``heimdex forget``: videos are as if they had never been; what was counted stays."""

from contextlib import suppress
from typing import Annotated
from uuid import UUID

import typer

from cluster import launch
from cluster.scene_pictures import ScenePictures
from cluster.settings import load_settings
from cluster.store.database import Pool, open_pool
from cluster.store.forgetting import ForgottenPictures, find_own
from cluster.store.forgetting import forget as forget_videos
from cluster.store.index_follower import IndexFollower
from cluster.store.opensearch import open_client
from cluster.video_uris import expand


def forget(
    videos: Annotated[
        list[str], typer.Argument(metavar="URI...", help="As they were submitted, or ids.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete all that was found in videos: scenes, words, pictures. Work on them stops; the metrics keep their counts.

    The video files themselves stay where they are. Exit status 1: there is no such video.
    """
    settings = load_settings()
    with launch.open_database(settings) as url, open_pool(url, max_size=2, name="heimdex-forget") as pool:
        ids = _ids(pool, settings.resolved_owner_id, videos)
        if not ids:
            typer.echo("error: there is no such video", err=True)
            raise typer.Exit(1)
        if not yes:
            typer.confirm(f"Forget {len(ids)} videos, with all that was found in them?", abort=True, err=True)
        forgotten = forget_videos(pool, ids, settings.resolved_owner_id)
        pictures, due = ScenePictures(settings.resolved_scenes_url), ForgottenPictures(pool)
        for video_id in forgotten:
            pictures.remove(video_id)
            due.note_removed(video_id)
        if settings.search_engine is not None:
            IndexFollower(pool, open_client(settings.search_engine)).follow_all(forgotten)
    typer.echo(f"{len(forgotten)} videos are forgotten")


def _ids(pool: Pool, owner_id: UUID, videos: list[str]) -> list[UUID]:
    ids: list[UUID] = []
    for video in videos:
        with suppress(ValueError):
            ids.append(UUID(video))
    return find_own(pool, owner_id, ids, [*videos, *expand(videos)])
