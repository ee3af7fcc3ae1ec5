"""``heimdex forget``: what was found in videos is deleted and what was counted stays, or an owner is erased."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from cluster.cli.terminal import out, say
from cluster.cli.video_choice import SameUri, Videos, choose
from cluster.contracts.counts import counted
from cluster.contracts.errors import InvalidVideo, TransientFailure
from cluster.contracts.uris import shown
from cluster.contracts.videos import Origin
from cluster.runtime import launch
from cluster.settings import Settings, load_settings
from cluster.store.postgres.connections import Pool, open_pool

if TYPE_CHECKING:  # files and scenes bring numpy and fsspec along: no other command should wait for their import
    from cluster.files.storage import FetchLimits
    from cluster.store.videos.deletion import OwnVideo


def forget(
    videos: Videos = None,
    owner: Annotated[
        UUID | None, typer.Option(metavar="UUID", help="Erase all of this owner's: videos, scenes, pictures, searches.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    with_file: Annotated[bool, typer.Option("--with-file", help="Remove the video files too.")] = False,
) -> None:
    """Delete all that was found in videos: scenes, words, pictures. Work on them stops; the metrics keep their counts.

    The video files stay where they are, and so does what says where, unless --with-file removes them. Exit status 1:
    there is no such video, or one was not forgotten.

    With --owner, a person is erased: the rows go too, and with them what the metrics counted. Ended in the middle, the
    same command goes on. Exit status 1: something is left.
    """
    if bool(videos) == (owner is not None):
        raise typer.BadParameter("give either videos, or --owner")
    settings = load_settings()
    if owner is not None:
        _erase(settings, owner, yes=yes, with_file=with_file)
    else:
        _forget(settings, videos or [], yes=yes, with_file=with_file)


def _erase(settings: Settings, owner_id: UUID, *, yes: bool, with_file: bool) -> None:
    from cluster.cli.erasure import erase  # here for a quick start of the other commands, as everywhere below
    from cluster.store.videos.erasing import count_data

    with launch.open_database_as_owner(settings) as url, open_pool(url, max_size=2, name="heimdex-forget") as pool:
        found = count_data(pool, owner_id)
        if not yes:
            files = " with their files" if with_file else ""
            all_of_it = f"{counted(found.videos, 'video')}{files}, {counted(found.searches, 'search', 'searches')}"
            typer.confirm(f"Erase all of owner {owner_id}, {all_of_it}? It cannot be undone.", abort=True, err=True)
        erased = erase(pool, settings, owner_id, say, with_file=with_file)
        left = count_data(pool, owner_id)
    for trouble in erased.troubles:
        say(f"error: {trouble}")
    searches = counted(erased.searches, "search", "searches")
    out(f"erased of owner {owner_id}: {counted(erased.videos, 'video')}, {searches}")
    if left.elsewhere:
        stay = counted(left.elsewhere, "video stays", "videos stay")
        say(f"{stay}, since another system has them in work: run this again later")
    if left.videos or left.searches or erased.troubles:
        raise typer.Exit(1)


def _forget(settings: Settings, videos: list[str], *, yes: bool, with_file: bool) -> None:
    from cluster.files.fetch_limits import fetch_limits
    from cluster.store.videos.deletion import find_own
    from cluster.store.videos.deletion import forget as forget_videos

    with launch.open_database_as_owner(settings) as url, open_pool(url, max_size=2, name="heimdex-forget") as pool:
        named = choose(pool, videos, None, SameUri.ALL, settings.resolved_owner_id)
        found = find_own(pool, settings.resolved_owner_id, named, [])
        if not found:
            say("error: there is no such video")
            raise typer.Exit(1)
        chosen = [video for video in found if not video.elsewhere]
        if chosen and not yes:
            files = " and their files" if with_file else ""
            question = f"Forget {counted(len(chosen), 'video')}{files}, with all that was found in them?"
            typer.confirm(question, abort=True, err=True)
        removed = _without_file(chosen, fetch_limits(settings), settings.resolved_owner_id) if with_file else []
        left = removed if with_file else chosen
        forgotten = forget_videos(
            pool,
            [video.id for video in left],
            settings.resolved_owner_id,
            without_file=[video.id for video in removed if not video.shared],
        )
        _remove_pictures(pool, settings, forgotten)
    _report(forgotten, found, with_file)


def _without_file(videos: "Sequence[OwnVideo]", limits: "FetchLimits", owner_id: UUID) -> "list[OwnVideo]":
    """Remove the videos' files; returns those videos that may be forgotten now, and says why others may not.

    What would not be fetched for such a submission is not removed for it either.
    """
    from cluster.files.origins import limits_for
    from cluster.files.stored_files import remove_file

    removed = []
    for video in videos:
        if video.shared:
            say(f"the file stays, since other videos are of it too: {shown(video.uri)}")
        else:
            try:
                limits_for(video.uri, Origin(video.origin), owner_id, limits)
                remove_file(video.uri, limits.storage_root, owner_id)
            except (InvalidVideo, TransientFailure) as error:
                say(f"error: {error}")
                continue
        removed.append(video)
    return removed


def _remove_pictures(pool: Pool, settings: Settings, forgotten: Sequence[UUID]) -> None:
    from cluster.files.scene_pictures import ScenePictures
    from cluster.store.opensearch.client import open_client
    from cluster.store.opensearch.sync import IndexFollower
    from cluster.store.videos.deletion import ForgottenPictures

    pictures, due = ScenePictures(settings.resolved_scenes_url), ForgottenPictures(pool)
    for video_id in forgotten:
        pictures.remove(video_id)
        due.note_removed(video_id)
    if settings.search_engine is not None:
        IndexFollower(pool, open_client(settings.search_engine)).follow_all(forgotten)


def _report(forgotten: Sequence[UUID], found: "Sequence[OwnVideo]", with_file: bool) -> None:
    """What was done and what was not. Exit status 1 when a video is left."""
    if forgotten:
        files = "" if with_file else "; their files stay where they are (--with-file removes them)"
        out(f"{counted(len(forgotten), 'video is', 'videos are')} forgotten{files}")
    for video in found:
        if video.elsewhere:
            say(f"not forgotten, since another system has it in work: {shown(video.uri)} ({video.id})")
        elif video.id not in forgotten and not with_file:
            say(f"not forgotten, since its state changed meanwhile: {shown(video.uri)} ({video.id})")
    if len(forgotten) < len(found):
        raise typer.Exit(1)
