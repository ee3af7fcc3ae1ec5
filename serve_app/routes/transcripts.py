"""What was said in a user's own video, as a file for players, people and programs.

What the file says is ``cluster.transcripts.formats``'. Another user's videos are as if they did not exist.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query, Response

from cluster.contracts.transcript_formats import TranscriptFormat
from cluster.store.videos.transcripts import read_transcript
from cluster.transcripts.formats import MEDIA_TYPES, write_transcript
from serve_app.error_responses import NotFound
from serve_app.guards import CurrentUser
from serve_app.parts import Parts
from serve_app.routes.videos import VideoId
from serve_app.schemas.videos import VideoTranscript

LONGEST_NAME_BYTES = 200
"""File systems take 255, the suffix included."""

Format = Annotated[
    TranscriptFormat,
    Query(alias="format", description="WebVTT or SubRip for players, text for people, or JSON with every word."),
]

DESCRIPTION: dict[int | str, dict[str, Any]] = {
    200: {
        "model": VideoTranscript,
        "description": "The transcript in the format that was asked for.",
        "content": {
            media_type.partition(";")[0]: {"schema": {"type": "string"}}
            for wanted, media_type in MEDIA_TYPES.items()
            if wanted is not TranscriptFormat.JSON
        },
    }
}


def read_own_transcript(
    video_id: VideoId, user_id: CurrentUser, parts: Parts, wanted: Format = TranscriptFormat.JSON
) -> Response:
    """What was said in one of the user's videos, with times, or as text. 404 as long as it is not transcribed."""
    video = read_transcript(parts.pool, user_id, video_id)
    if video is None:
        raise NotFound("There is no such video.")
    if video.transcript is None:
        raise NotFound(f"The video is {video.status}: it has no transcript yet.")
    return Response(
        write_transcript(video.transcript, wanted, video.duration_s, video.source),
        headers={"Content-Disposition": attachment(PurePosixPath(video.name).stem, wanted)},
        media_type=MEDIA_TYPES[wanted],
    )


def attachment(name: str, suffix: str) -> str:
    """A Content-Disposition (RFC 6266) that names the file ``name.suffix``.

    What no file may be called on some system becomes ``_``, as does what is not seen, or turns the direction of what
    is. Letters beyond ASCII are in the second name, which all browsers of today prefer.
    """
    short = name.encode()[:LONGEST_NAME_BYTES].decode(errors="ignore")
    printable = "".join(letter if letter.isprintable() else "_" for letter in short)
    safe = re.sub(r'[<>:"/\\|?*]', "_", printable).strip(" .") or "transcript"
    plain = re.sub(r"[^A-Za-z0-9 ._()-]", "_", safe)
    return f"attachment; filename=\"{plain}.{suffix}\"; filename*=UTF-8''{quote(safe, safe='')}.{suffix}"
