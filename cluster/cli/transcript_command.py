"""``heimdex transcript``: what was said in a video, on standard output or in a file."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from cluster.cli.terminal import out_exactly, say
from cluster.contracts.transcript_formats import TranscriptFormat
from cluster.contracts.uris import expand, shown
from cluster.runtime import launch
from cluster.settings import load_settings
from cluster.store.postgres.connections import Pool, open_pool


def transcript(
    video: Annotated[
        str, typer.Argument(metavar="VIDEO_ID_OR_URI", help="A video's id, or its file or URI as it was submitted.")
    ],
    wanted: Annotated[
        TranscriptFormat | None,
        typer.Option(
            "--format",
            help="Captions (vtt, srt), every word (json), or text.",
            show_default="as the output's name ends, else txt",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="A file to write instead of standard output.")] = None,
) -> None:
    """Print what was said in a video. Of several videos of the same URI, the latest that is READY.

    Exit status 1: there is no such video, or it has no transcript yet.
    """
    # Here and not above: they bring numpy along, for which no other command should wait.
    from cluster.store.videos.transcripts import read_transcript
    from cluster.transcripts.formats import write_transcript

    settings = load_settings()
    owner_id = settings.resolved_owner_id
    with launch.open_database(settings) as url, open_pool(url, max_size=2, name="heimdex-transcript") as pool:
        video_id = _video_id(pool, owner_id, video)
        found = read_transcript(pool, owner_id, video_id) if video_id is not None else None
    if found is None:
        raise _refusal(f"there is no such video: {shown(video)}")
    if found.transcript is None:
        raise _refusal(f"{found.name} is {found.status}: it has no transcript yet")
    written = write_transcript(found.transcript, wanted or _format_of(output), found.duration_s, found.source).encode()
    if output is None:
        out_exactly(written)
        return
    try:
        output.write_bytes(written)
    except OSError as error:
        raise _refusal(f"cannot write {output}: {error.strerror}") from None


def _video_id(pool: Pool, owner_id: UUID, video: str) -> UUID | None:
    """The id that ``video`` is, or that of the video of this URI; None when there is none."""
    from cluster.store.videos.transcripts import find_video

    with suppress(ValueError):
        if str(UUID(video)) == video.lower():
            return UUID(video)
    expanded = expand([video])
    if len(expanded) > 1:
        raise _refusal(f"{shown(video)} is {len(expanded)} videos: name one of them")
    as_written = video.encode(errors="replace").decode()  # a path's bytes need not be UTF-8; what is stored is
    return find_video(pool, owner_id, [as_written, *expanded])


def _format_of(output: Path | None) -> TranscriptFormat:
    with suppress(ValueError):
        return TranscriptFormat((output or Path()).suffix.lower().removeprefix("."))
    return TranscriptFormat.TXT


def _refusal(sentence: str) -> typer.Exit:
    say(f"error: {sentence}")
    return typer.Exit(1)
