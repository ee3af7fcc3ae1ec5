"""``heimdex transcript``: what was said in a video, on standard output or in a file."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.terminal import out_exactly
from cluster.cli.video_choice import OneVideo, SameUri, choose_one, refusal
from cluster.contracts.transcript_formats import TranscriptFormat
from cluster.contracts.uris import shown
from cluster.runtime import launch
from cluster.settings import load_settings
from cluster.store.postgres.connections import open_pool


def transcript(
    video: OneVideo,
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
        video_id = choose_one(pool, video, SameUri.LATEST_READY, owner_id)
        found = read_transcript(pool, owner_id, video_id)
    if found is None:
        raise refusal(f"there is no such video: {shown(video)}")
    if found.transcript is None:
        raise refusal(f"{found.name} is {found.status}: it has no transcript yet")
    written = write_transcript(found.transcript, wanted or _format_of(output), found.duration_s, found.source).encode()
    if output is None:
        out_exactly(written)
        return
    try:
        output.write_bytes(written)
    except OSError as error:
        raise refusal(f"cannot write {output}: {error.strerror}") from None


def _format_of(output: Path | None) -> TranscriptFormat:
    with suppress(ValueError):
        return TranscriptFormat((output or Path()).suffix.lower().removeprefix("."))
    return TranscriptFormat.TXT
