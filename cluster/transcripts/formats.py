"""A transcript written down: WebVTT and SubRip for players, text for people, JSON for programs.

Owns the four formats. Leaves what is in a caption to ``cluster.transcripts.captions``, reading the transcript to
``cluster.store.videos.transcripts``.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from unicodedata import east_asian_width

from cluster.contracts.results import Segment, Transcript, TranscriptSource
from cluster.contracts.transcript_formats import TranscriptFormat
from cluster.transcripts.captions import Caption, captions, one_line

MEDIA_TYPES = {
    TranscriptFormat.JSON: "application/json",
    TranscriptFormat.VTT: "text/vtt; charset=utf-8",
    TranscriptFormat.SRT: "application/x-subrip; charset=utf-8",
    TranscriptFormat.TXT: "text/plain; charset=utf-8",
}

PARAGRAPH_PAUSE_S = 2.0
PARAGRAPH_LETTERS = 500
"""A paragraph ends at a pause, or with the segment that makes it as long as this."""

_VTT_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
_SRT_MARKS = re.compile(r"(?<=<)(?=[A-Za-z/!])|(?<=\{)(?=\\)|(?<=--)(?=>)")
"""Places where players take text for a tag, a command or a line of times."""
_WORD_JOINER = "\u2060"
"""Neither seen nor a place to break a line: SubRip has no escapes, and no player finds its marks around it."""


OURS = TranscriptSource()


def write_transcript(
    transcript: Transcript,
    wanted: TranscriptFormat,
    duration_s: float | None = None,
    source: TranscriptSource = OURS,
) -> str:
    """The whole ``transcript`` in that format, to be stored and sent as UTF-8.

    ``duration_s``: the video's, which only JSON names. ``source``: who made it, which JSON names and WebVTT notes.
    Where nothing was said, text and SubRip are empty.
    """
    match wanted:
        case TranscriptFormat.JSON:
            return _json(transcript, duration_s, source)
        case TranscriptFormat.VTT:
            return _vtt(transcript.segments, source)
        case TranscriptFormat.SRT:
            return _srt(transcript.segments)
        case TranscriptFormat.TXT:
            return _text(transcript.segments)


def _json(transcript: Transcript, duration_s: float | None, source: TranscriptSource) -> str:
    document: dict[str, object] = {
        "language": transcript.language,
        "model": transcript.model or None,
        "source": source.name,
        "times": "measured" if source.timed else "estimated",
        "duration_s": duration_s,
        "segments": [],
    }
    # One by one: all at once would hold the interpreter's lock for as long as hours of speech take.
    segments = ", ".join(json.dumps(asdict(segment), ensure_ascii=False) for segment in transcript.segments)
    return json.dumps(document, ensure_ascii=False).removesuffix("]}") + segments + "]}\n"


def _vtt(segments: Sequence[Segment], source: TranscriptSource) -> str:
    """https://www.w3.org/TR/webvtt1/"""
    blocks = [f"{_times(caption, '.')}\n{_lines(caption).translate(_VTT_ESCAPES)}" for caption in captions(segments)]
    return "\n\n".join(["WEBVTT", *_notes(source), *blocks]) + "\n"


def _notes(source: TranscriptSource) -> list[str]:
    if not source.existing:
        return []
    times = "" if source.timed else "; its times are estimated from the length of the text"
    return [f"NOTE This transcript was made by the existing system, not by heimdex-cluster{times}."]


def _srt(segments: Sequence[Segment]) -> str:
    """https://wiki.videolan.org/SubRip/"""
    return "\n".join(
        f"{number}\n{_times(caption, ',')}\n{_SRT_MARKS.sub(_WORD_JOINER, _lines(caption))}\n"
        for number, caption in enumerate(captions(segments), 1)
    )


def _lines(caption: Caption) -> str:
    return "\n".join(caption.lines)


def _times(caption: Caption, mark: str) -> str:
    return f"{_time_stamp(caption.start_ms, mark)} --> {_time_stamp(caption.end_ms, mark)}"


def _time_stamp(milliseconds: int, mark: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{mark}{milliseconds:03d}"


def _text(segments: Sequence[Segment]) -> str:
    """A paragraph is a line, with an empty one between two."""
    paragraphs: list[str] = []
    end_s = 0.0
    for segment in segments:
        said = one_line(segment.text)
        if not said:
            continue
        pause = segment.start_s - end_s >= PARAGRAPH_PAUSE_S
        if not paragraphs or pause or len(paragraphs[-1]) >= PARAGRAPH_LETTERS:
            paragraphs.append(said)
        else:
            paragraphs[-1] += _between(paragraphs[-1], segment) + said
        end_s = segment.end_s
    return "\n\n".join(paragraphs) + "\n" if paragraphs else ""


def _between(before: str, segment: Segment) -> str:
    """Nothing where a language puts no blanks between sentences, else a blank.

    A first word mostly has its blank; where it has none, the letters decide: wide ones are Chinese or Japanese.
    """
    first = segment.words[0].text if segment.words else segment.text
    wide = all(east_asian_width(letter) in "WF" for letter in (before[-1], one_line(segment.text)[0]))
    return "" if wide and not first[:1].isspace() else " "
