"""The formats that a transcript is written in. Writing it is ``cluster.transcripts``'."""

from enum import StrEnum


class TranscriptFormat(StrEnum):
    """The formats; the values are the suffixes of their files."""

    JSON = "json"
    VTT = "vtt"
    SRT = "srt"
    TXT = "txt"
