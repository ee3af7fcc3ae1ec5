"""The videos that a person names to a command: ids, beginnings of ids, URIs, file names, or a batch.

A name that fits several videos is refused with the ids of all of them, and then nothing is done.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import Annotated
from uuid import UUID

import typer

from cluster.cli.terminal import say
from cluster.contracts.batches import check_batch
from cluster.contracts.uris import expand, shown
from cluster.contracts.videos import VideoStatus
from cluster.runtime import launch
from cluster.settings import load_settings
from cluster.store.postgres.connections import Pool, open_pool
from cluster.store.videos.named_videos import NamedBy, NamedVideo, find_batch, find_named, whole_id

MOST_NAMED = 20
"""Videos that are named when a name fits several."""
Videos = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="VIDEO",
        help="Ids, beginnings of ids (8 characters or more), URIs or file names.",
        show_default=False,
    ),
]
OneVideo = Annotated[
    str, typer.Argument(metavar="VIDEO", help="An id, the beginning of one (8 characters or more), URI or file name.")
]


def batch_name(name: str) -> str:
    """The value of ``--batch``."""
    try:
        return check_batch(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Batch = Annotated[
    str | None,
    typer.Option(
        "--batch", metavar="NAME", parser=batch_name, help="The videos that were submitted as this batch.",
        show_default=False,
    ),
]  # fmt: skip


class SameUri(Enum):
    """What is chosen when a URI was submitted several times."""

    REFUSED = auto()
    ALL = auto()
    LATEST_READY = auto()


def require_either(names: Sequence[str] | None, batch: str | None) -> None:
    """Raise typer.BadParameter unless either videos or a batch are named: before any database is opened."""
    if (batch is None) == (not names):
        raise typer.BadParameter("give either videos, or --batch")


@contextmanager
def opened_pool(name: str) -> Iterator[Pool]:
    """The database of the settings, for one command."""
    with launch.open_database(load_settings()) as url, open_pool(url, max_size=2, name=name) as pool:
        yield pool


def choose(
    pool: Pool, names: Sequence[str] | None, batch: str | None = None, same_uri: SameUri = SameUri.REFUSED,
    owner_id: UUID | None = None,
) -> list[UUID]:  # fmt: skip
    """The ids of the videos that are named, each once, in their order; a whole id is not looked up.

    ``owner_id``: only this owner's videos fit; None: those of every owner.

    Raises:
        typer.Exit: with status 1, after saying why: a name fits no video, or several.
    """
    if batch is not None:
        ids = find_batch(pool, batch, owner_id)
        if not ids:
            raise refusal(f"there is no such batch: {batch}")
        return ids
    chosen: list[UUID] = []
    refused = False
    for name in names or ():
        try:
            chosen += _ids_of(pool, name, same_uri, owner_id)
        except typer.Exit:
            refused = True
    if refused:
        raise typer.Exit(1)
    return list(dict.fromkeys(chosen))


def choose_one(pool: Pool, name: str, same_uri: SameUri = SameUri.REFUSED, owner_id: UUID | None = None) -> UUID:
    """The id of the video that is named. Raises as :func:`choose`, and where ``name`` is a folder of several."""
    if whole_id(name) is None and len(expanded := expand([name])) > 1:
        raise refusal(f"{shown(name)} is {len(expanded)} videos: name one of them")
    return choose(pool, [name], None, same_uri, owner_id)[0]


def refusal(sentence: str) -> typer.Exit:
    """The end of a command that says why it does nothing."""
    say(f"error: {sentence}")
    return typer.Exit(1)


def _ids_of(pool: Pool, name: str, same_uri: SameUri, owner_id: UUID | None) -> list[UUID]:
    if (video_id := whole_id(name)) is not None:
        return [video_id]
    as_written = name.encode(errors="replace").decode()  # a path's bytes need not be UTF-8; what is stored is
    expanded = expand([name])
    if len(expanded) > 1:  # a folder or glob
        return _ids_in_folder(pool, name, expanded, same_uri, owner_id)
    kind, found = find_named(pool, as_written, [as_written, *expanded], owner_id)
    if not found:
        raise refusal(f"there is no such video: {shown(name)}")
    return _pick(name, kind, found, same_uri)


def _ids_in_folder(
    pool: Pool, folder: str, uris: Sequence[str], same_uri: SameUri, owner_id: UUID | None
) -> list[UUID]:
    ids: list[UUID] = []
    for uri in uris:
        kind, found = find_named(pool, uri, [uri], owner_id)
        if kind is NamedBy.URI:
            ids += _pick(uri, kind, found, same_uri)
    if not ids:
        raise refusal(f"none of the {len(uris)} videos in it was submitted: {shown(folder)}")
    return ids


def _pick(name: str, kind: NamedBy | None, found: Sequence[NamedVideo], same_uri: SameUri) -> list[UUID]:
    if kind in {NamedBy.URI, NamedBy.SHOWN_URI}:
        if same_uri is SameUri.ALL:
            return [video.id for video in found]
        if same_uri is SameUri.LATEST_READY:
            return [next((video.id for video in found if video.status == VideoStatus.READY), found[0].id)]
    if len(found) == 1:
        return [found[0].id]
    say(f"error: {shown(name)} is the {kind} of {len(found)} videos: name one by its id")
    for video in found[:MOST_NAMED]:
        submitted = "" if video.created_at is None else f"{video.created_at:%Y-%m-%d %H:%M:%S}"
        say(f"  {video.id}  {video.status:10}  {submitted}  {video.place or video.name}")
    if len(found) > MOST_NAMED:
        say(f"  and {len(found) - MOST_NAMED} more: heimdex list")
    raise typer.Exit(1)
