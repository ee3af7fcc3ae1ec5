"""Transcripts written down: what was written is read back by a parser of the test's own, and by FFmpeg."""

import io
import json
import re
from dataclasses import asdict
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from cluster.contracts.results import Segment, Transcript, Word
from cluster.contracts.transcript_formats import TranscriptFormat
from cluster.transcripts.captions import captions
from cluster.transcripts.formats import PARAGRAPH_LETTERS, write_transcript

VTT, SRT, TXT, JSON = TranscriptFormat.VTT, TranscriptFormat.SRT, TranscriptFormat.TXT, TranscriptFormat.JSON
SHOWN = list[tuple[int, int, str]]
"""Captions as a player sees them: from and to which millisecond, and which lines."""
HOSTILE = [
    "a --> b",
    "00:00:01,000 --> 00:00:02,000",
    "<i>no</i> & <00:01.000> &lt;",
    "{\\an8}up",
    "42",
    "NOTE",
    "\n\n3\n\n",
]


def said(*texts: str, word_s: float = 0.5, start_s: float = 0.0, gap_s: float = 0.0) -> Transcript:
    """A segment per text, its words one after the other."""
    segments = []
    for text in texts:
        words = []
        for word in text.split(" "):
            words.append(Word(start_s, start_s + word_s, f" {word}", 0.9))
            start_s += word_s
        segments.append(Segment(words[0].start_s, start_s, text, tuple(words)))
        start_s += gap_s
    return Transcript("en", tuple(segments), "tiny.en@1")


def ms(stamp: str, mark: str) -> int:
    """A time stamp as its specification has it: two digits or more of hours, always three of milliseconds."""
    found = re.fullmatch(rf"(\d{{2,}}):([0-5]\d):([0-5]\d){re.escape(mark)}(\d{{3}})", stamp)
    assert found is not None, stamp
    hours, minutes, seconds, milliseconds = map(int, found.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds


def times(line: str, mark: str) -> tuple[int, int]:
    start, arrow, end = line.partition(" --> ")
    assert arrow
    return ms(start, mark), ms(end, mark)


def read_vtt(text: str) -> SHOWN:
    header, *blocks = text.removesuffix("\n").split("\n\n")
    assert header == "WEBVTT"
    shown = []
    for block in blocks:
        line, *lines = block.split("\n")
        assert lines
        assert all(lines)
        body = "\n".join(lines)
        assert "-->" not in body
        assert not re.search("[<>]|&(?!amp;|lt;|gt;)", body)
        shown.append((*times(line, "."), body.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))
    return shown


def read_srt(text: str) -> SHOWN:
    shown: SHOWN = []
    for block in text.removesuffix("\n").split("\n\n") if text else []:
        number, line, *lines = block.split("\n")
        assert number == str(len(shown) + 1)
        assert lines
        assert all(lines)
        shown.append((*times(line, ","), "\n".join(lines).replace("\u2060", "")))
    return shown


def read_by_ffmpeg(text: str, name: str) -> SHOWN:
    """Its times, and the text as it takes it out of the file."""
    with av.open(io.BytesIO(text.encode()), "r", format=name) as container:
        (stream,) = container.streams.subtitles
        assert stream.time_base is not None
        return [
            (packet.pts, packet.pts + packet.duration, bytes(packet).decode())
            for packet in container.demux(stream)
            if packet.pts is not None and packet.duration is not None and packet.size
        ]


def displayed(text: str, name: str) -> str:
    """The text that FFmpeg's decoder would show on one line, markup taken out."""
    with av.open(io.BytesIO(text.encode()), "r", format=name) as container:
        decoded: list[Any] = [part for packet in container.demux(subtitles=0) for part in packet.decode()]
    return " ".join(part.dialogue.decode().replace("\\N", " ").replace("\n", " ") for part in decoded)


@some.composite
def transcripts(draw: some.DrawFn) -> Transcript:
    """Anything that may be said at any time; some of it looks like what the formats are made of."""
    text = some.one_of(some.sampled_from(HOSTILE), some.text(some.characters(exclude_categories=["Cs"]), max_size=12))
    at_s = draw(some.floats(0.0, 400_000.0))
    segments = []
    for texts in draw(some.lists(some.lists(text, min_size=1, max_size=8), max_size=4)):
        words = []
        for word in texts:
            start_s = at_s + draw(some.floats(0.0, 3.0))
            at_s = start_s + draw(some.floats(0.0, 3.0))
            words.append(Word(start_s, at_s, f" {word}", 0.5))
        segments.append(Segment(words[0].start_s, at_s, " ".join(texts), tuple(words)))
    return Transcript("en", tuple(segments), "tiny.en@1")


def wanted(transcript: Transcript) -> SHOWN:
    return [(caption.start_ms, caption.end_ms, "\n".join(caption.lines)) for caption in captions(transcript.segments)]


@settings(deadline=None)
@given(transcripts())
def test_what_was_written_is_read_back_as_it_was(transcript: Transcript) -> None:
    assert read_vtt(write_transcript(transcript, VTT)) == wanted(transcript)
    without_joiners = [(start, end, text.replace("\u2060", "")) for start, end, text in wanted(transcript)]
    assert read_srt(write_transcript(transcript, SRT)) == without_joiners


@settings(deadline=None)
@given(transcripts().filter(lambda transcript: captions(transcript.segments)))
def test_ffmpeg_reads_the_same_times(transcript: Transcript) -> None:
    for kind, name in ((VTT, "webvtt"), (SRT, "srt")):
        read = read_by_ffmpeg(write_transcript(transcript, kind), name)
        assert [shown[:2] for shown in read] == [shown[:2] for shown in wanted(transcript)], kind


def test_ffmpeg_reads_the_same_text() -> None:
    transcript = said(
        "The tide comes in, and we go home before it is too dark to see.", "Wir gehen über die Brücke.", "我们"
    )
    for kind, name in ((VTT, "webvtt"), (SRT, "srt")):
        assert read_by_ffmpeg(write_transcript(transcript, kind), name) == wanted(transcript)


def test_no_word_is_taken_for_markup_by_ffmpeg() -> None:
    transcript = said("<i>one</i> & <two> --> </b> 00:00:01,000 --> &lt; <!-- three")
    for kind, name in ((VTT, "webvtt"), (SRT, "srt")):
        shown = displayed(write_transcript(transcript, kind), name)
        assert shown.replace("\u2060", "") == transcript.segments[0].text, kind


@pytest.mark.parametrize(
    ("start_s", "stamp"),
    [
        (0.0, "00:00:00.000"),
        (0.9994, "00:00:00.999"),
        (0.9995001, "00:00:01.000"),
        (59.9996, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (86_399.9999, "24:00:00.000"),
        (360_000.0, "100:00:00.000"),
        (-0.5, "00:00:00.000"),
    ],
)
def test_times_are_rounded_to_whole_milliseconds(start_s: float, stamp: str) -> None:
    vtt, srt = (write_transcript(said("tide", start_s=start_s), kind) for kind in (VTT, SRT))
    assert vtt.split("\n")[2].startswith(f"{stamp} --> ")
    assert srt.split("\n")[1].startswith(f"{stamp.replace('.', ',')} --> ")


def test_vtt_and_srt_are_what_players_expect() -> None:
    transcript = said("Fish & chips.", "I <3 you.", word_s=0.5, gap_s=0.5)
    assert write_transcript(transcript, VTT) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nFish &amp; chips.\n\n00:00:02.000 --> 00:00:03.500\nI &lt;3 you.\n"
    )
    assert write_transcript(transcript, SRT) == (
        "1\n00:00:00,000 --> 00:00:01,500\nFish & chips.\n\n2\n00:00:02,000 --> 00:00:03,500\nI <3 you.\n"
    )


def test_text_is_paragraphs_without_times() -> None:
    first, second = said("The tide", "comes in.").segments, said("We go home.", start_s=4.0).segments
    transcript = Transcript("en", (*first, *second), "tiny.en@1")
    assert write_transcript(transcript, TXT) == "The tide comes in.\n\nWe go home.\n"


def test_a_paragraph_has_an_end_even_without_a_pause() -> None:
    sentence = "The tide comes in."
    paragraphs = write_transcript(said(*[sentence] * 200), TXT).split("\n\n")
    assert len(paragraphs) > 5
    assert all(PARAGRAPH_LETTERS <= len(one) <= PARAGRAPH_LETTERS + len(sentence) + 1 for one in paragraphs[:-1])
    assert " ".join(paragraphs).split() == (f"{sentence} " * 200).split()


def test_transcript_text_has_blanks_where_the_language_has() -> None:
    def text(*sentences: tuple[str, ...]) -> str:
        segments = [Segment(0.0, 0.0, "".join(s).strip(), tuple(Word(0.0, 0.0, w, 0.9) for w in s)) for s in sentences]
        return write_transcript(Transcript(None, tuple(segments), "tiny"), TXT)

    assert text(("潮水", "来了。"), ("我们", "回家。")) == "潮水来了。我们回家。\n"
    assert text((" 안녕", " 하세요"), (" 반갑", "습니다")) == "안녕 하세요 반갑습니다\n"
    assert text(("Hello.",), ("There.",)) == "Hello. There.\n"


@settings(deadline=None)
@given(transcripts())
def test_text_and_json_lose_no_word(transcript: Transcript) -> None:
    text = write_transcript(transcript, TXT)
    spoken = "".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", "", segment.text) for segment in transcript.segments)
    assert "".join(text.split()) == "".join(spoken.split())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", text)
    document = json.loads(write_transcript(transcript, JSON, 12.5))
    assert document == json.loads(
        json.dumps(
            {
                "language": "en",
                "model": "tiny.en@1",
                "source": "heimdex-cluster",
                "times": "measured",
                "duration_s": 12.5,
                "segments": [asdict(segment) for segment in transcript.segments],
            }
        )
    )


def test_json_is_written_in_the_letters_of_its_language() -> None:
    assert '"text": "Über die Brücke."' in write_transcript(said("Über die Brücke."), JSON)


def test_where_nothing_was_said_the_files_are_empty_but_valid() -> None:
    silent = Transcript(None, (), "tiny.en@1")
    assert [write_transcript(silent, kind) for kind in (VTT, SRT, TXT)] == ["WEBVTT\n", "", ""]
    assert read_by_ffmpeg(write_transcript(silent, VTT), "webvtt") == []
    assert json.loads(write_transcript(silent, JSON)) == {
        "language": None,
        "model": "tiny.en@1",
        "source": "heimdex-cluster",
        "times": "measured",
        "duration_s": None,
        "segments": [],
    }
