"""A mono track per microphone: the further ones with sound of their own are named in a warning."""

from pathlib import Path

import pytest
from av.stream import Disposition

from tests.support.heard_tracks import heard_track, probe
from tests.support.track_files import Track, write_tracks

COMMENT, DUB = Disposition.comment, Disposition.dub


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mov", "pcm_s16le"), ("mov", "pcm_s24le"), ("mkv", "aac"), ("mp4", "aac")]
)
def test_further_microphones_are_named_in_a_warning(suffix: str, codec: str, tmp_path: Path) -> None:
    tracks = [Track(), Track(sounds_from_s=None), Track(sounds_from_s=1.0), Track(tone_of=0)]
    path = write_tracks(tmp_path / f"microphones.{suffix}", tracks, codec=codec)
    assert heard_track(path) == 0
    [warning] = probe(path)[2].warnings
    assert warning.code == "sound_tracks"
    assert warning.message.replace("(und)", "(no language)") == (
        "the words are those of the sound track 1 (no language); further tracks with sound (3 (no language)) are left "
        "out; mix them into one track to have all of them transcribed"
    )


def test_microphone_that_sounds_late_is_named(tmp_path: Path) -> None:
    tracks = [Track(), Track(sounds_from_s=8.0)]
    late = write_tracks(tmp_path / "late.mov", tracks, seconds=12.0, codec="pcm_s16le")
    assert "(2 (no language))" in probe(late)[2].warnings[0].message
    silent_first = [Track(sounds_from_s=None), Track(), Track()]
    second = write_tracks(tmp_path / "second.mov", silent_first, codec="pcm_s16le")
    assert "track 2 (no language)" in probe(second)[2].warnings[0].message
    assert "(3 (no language))" in probe(second)[2].warnings[0].message


SAME = [
    [Track(), Track(sounds_from_s=None)],
    [Track(), Track(tone_of=0)],
    [Track(), Track(tone_of=0, gain=0.25)],
    [Track(), Track(tone_of=0, gain=-1.0)],
    [Track(sounds_from_s=None), Track(sounds_from_s=None)],
    [Track("eng"), Track("eng")],
]


@pytest.mark.parametrize(("suffix", "codec"), [("mov", "pcm_s16le"), ("mkv", "aac"), ("nut", "mp2")])
@pytest.mark.parametrize("tracks", SAME)
def test_silent_or_same_track_gives_no_warning(tracks: list[Track], suffix: str, codec: str, tmp_path: Path) -> None:
    assert probe(write_tracks(tmp_path / f"same.{suffix}", tracks, codec=codec))[2].warnings == ()


def test_tracks_that_are_told_apart_give_no_warning(tmp_path: Path) -> None:
    for number, beside in enumerate([Track(disposition=COMMENT), Track(title="Commentary"), Track(disposition=DUB)]):
        path = write_tracks(tmp_path / f"{number}.nut", [Track(), beside], codec="pcm_s16le")
        assert probe(path)[2].warnings == ()
