"""Transcripts that an existing Heimdex stored, in the shapes that its versions wrote."""

import json
from typing import Any

import pytest

from cluster.contracts.results import Segment, Transcript, TranscriptSource, Word
from cluster.contracts.transcript_formats import TranscriptFormat
from cluster.store.videos.existing_transcripts import read_existing
from cluster.transcripts.formats import write_transcript

SEGMENTS = (Segment(0.0, 2.5, "the harbour", ()), Segment(2.5, 4.0, "at dawn", ()))
AS_STORED = [{"start": 0.0, "end": 2.5, "text": "the harbour"}, {"start": 2.5, "end": 4.0, "text": "at dawn"}]


@pytest.mark.parametrize(
    "stored",
    [
        AS_STORED,
        {"segments": AS_STORED, "language": "en"},
        json.dumps(AS_STORED),
        [{"start_s": i["start"], "end_s": i["end"], "text": i["text"]} for i in AS_STORED],
        [{"start_time": str(i["start"]), "end_time": str(i["end"]), "text": i["text"], "id": 3} for i in AS_STORED],
        [None, {"text": " "}, {"start": 1}, *AS_STORED, "nonsense"],
    ],
)
def test_existing_segments_of_any_shape_are_read(stored: Any) -> None:
    assert read_existing(stored, "ignored", "en", 9.0) == (Transcript("en", SEGMENTS, ""), True)


def test_existing_words_are_read_where_all_have_times() -> None:
    words = [{"word": " the", "start": 0, "end": 1, "probability": 0.5}, {"word": " tide", "start": 1, "end": 2}]
    whole = read_existing([{"start": 0, "end": 2, "text": "the tide", "words": words}], None, None, None)
    assert whole is not None
    assert whole[0].words == [Word(0.0, 1.0, " the", 0.5), Word(1.0, 2.0, " tide", 1.0)]
    words[1].pop("end")
    without = read_existing([{"start": 0, "end": 2, "text": "the tide", "words": words}], None, None, None)
    assert without is not None
    assert without[0].segments == (Segment(0.0, 2.0, "the tide", ()),)


def test_existing_segments_without_times_follow_each_other() -> None:
    found = read_existing([{"text": "a"}, {"text": "b", "start": float("nan"), "end": -3}], None, None, None)
    assert found == (Transcript(None, (Segment(0.0, 0.0, "a", ()), Segment(0.0, 0.0, "b", ())), ""), True)


@pytest.mark.parametrize(("duration_s", "end_s"), [(8.0, 8.0), (None, 2.0)])
def test_existing_text_alone_has_estimated_times(duration_s: float | None, end_s: float) -> None:
    text = "x" * 30
    expected = Transcript("ko", (Segment(0.0, end_s, text, ()),), "")
    assert read_existing([], f" {text} ", "ko", duration_s) == (expected, False)


@pytest.mark.parametrize("segments", [None, [], {}, "", "[", 7, [[]]])
@pytest.mark.parametrize("text", [None, "", " \n"])
def test_nothing_stored_is_no_transcript(segments: Any, text: str | None) -> None:
    assert read_existing(segments, text, None, 8.0) is None


def test_captions_say_whose_they_are() -> None:
    existing = Transcript("en", SEGMENTS, "")
    captions = write_transcript(existing, TranscriptFormat.VTT, 9.0, TranscriptSource(existing=True))
    assert captions.startswith(
        "WEBVTT\n\nNOTE This transcript was made by the existing system, not by heimdex-cluster."
    )
    estimated = write_transcript(existing, TranscriptFormat.VTT, 9.0, TranscriptSource(existing=True, timed=False))
    assert "its times are estimated" in estimated
    assert "NOTE" not in write_transcript(existing, TranscriptFormat.VTT, 9.0)
    document = json.loads(write_transcript(existing, TranscriptFormat.JSON, 9.0, TranscriptSource(existing=True)))
    assert (document["source"], document["model"], document["times"]) == ("existing", None, "measured")
