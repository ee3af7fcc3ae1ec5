"""The track that is chosen: the pictures' own program, the main sound, the asked language, one that is not silent."""

import unicodedata
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from cluster.contracts.languages import language_key
from tests.support.heard_tracks import heard_track, probe
from tests.support.media_files import Shot
from tests.support.reported import reported
from tests.support.track_files import Track, join_programs, write_program, write_tracks

DEFAULT, COMMENT, DUB = Disposition.default, Disposition.comment, Disposition.dub
SILENT = Track(disposition=DEFAULT, sounds_from_s=None)


# Flags

BESIDE = [
    (Disposition.comment, "mkv"),
    (Disposition.comment, "mp4"),
    (Disposition.visual_impaired, "ts"),
    (Disposition.visual_impaired, "mkv"),
    (Disposition.descriptions, "mp4"),
    (Disposition.karaoke, "nut"),
    (Disposition.clean_effects, "ts"),
    (Disposition.dub, "mp4"),
    (Disposition.hearing_impaired, "mkv"),
    (Disposition.hearing_impaired, "ts"),
]


@pytest.mark.parametrize(("flag", "suffix"), BESIDE)
def test_flagged_track_is_left_for_the_main_one(flag: Disposition, suffix: str, tmp_path: Path) -> None:
    tracks = [Track(disposition=flag | DEFAULT), Track()]
    assert heard_track(write_tracks(tmp_path / f"flags.{suffix}", tracks)) == 1


TITLES = [
    "Director's Commentary", "Audio Description", "Karaoke version", "Audiodeskription", "Commentaire",
    "Komentarz reżysera", "Komentář", "Комментарий", "Тифлокомментарий", "Audiodeskrypcja", "Syntolkning",
    "감독 코멘터리", "오디오 코멘트리", "화면해설", "화면 해설", "음성해설", "음성 해설", "한국어 (화면해설)",
    unicodedata.normalize("NFD", "화면해설"),
    "音声解説", "解説放送", "音声ガイド", "オーディオコメンタリー", "ｺﾒﾝﾀﾘｰ",
    "导演评论", "評論音軌", "评论", "解说", "口述影像", "无障碍", "無障礙版本",
    "M&E", "M & E", "5.1 M+E", "Music + Effects", "AD", "English AD", "AD (stereo)", "日本語AD", "ＡＤ",
]  # fmt: skip


@pytest.mark.parametrize("title", TITLES)
def test_track_titled_as_commentary_is_left_for_the_main_one(title: str, tmp_path: Path) -> None:
    first = [Track(title=title, disposition=DEFAULT), Track()]
    assert heard_track(write_tracks(tmp_path / "first.mkv", first)) == 1
    assert heard_track(write_tracks(tmp_path / "last.mkv", [Track(), first[0]])) == 0
    assert heard_track(write_tracks(tmp_path / "only.mkv", first[:1])) == 0


MAIN_TITLES = [
    "Stereo",
    "ad",
    "Adam",
    "ADR mix",
    "LOAD",
    "me",
    "RM&EQ",
    "해설위원",
    "방송",
    "日本語",
    "国语",
    "Dolby Digital",
]


@pytest.mark.parametrize("title", MAIN_TITLES)
def test_track_of_another_title_is_heard(title: str, tmp_path: Path) -> None:
    tracks = [Track(title=title, disposition=DEFAULT), Track()]
    assert heard_track(write_tracks(tmp_path / "title.mkv", tracks)) == 0


@pytest.mark.parametrize("language", ["zxx", "qad", "ZXX", "QAD"])
def test_track_of_no_words_or_description_is_left(language: str, tmp_path: Path) -> None:
    beside = Track(language, DEFAULT)
    assert heard_track(write_tracks(tmp_path / "first.mkv", [beside, Track()])) == 1
    assert heard_track(write_tracks(tmp_path / "last.mkv", [Track("fre"), beside])) == 0
    assert heard_track(write_tracks(tmp_path / "asked.mkv", [beside, Track("fre")]), "en") == 1
    assert heard_track(write_tracks(tmp_path / "only.mkv", [beside])) == 0
    assert heard_track(write_tracks(tmp_path / "alike.mkv", [beside, beside])) == 0


@pytest.mark.parametrize("language", ["qaa", "mis", "mul", "und"])
def test_track_of_an_unnamed_language_is_a_main_one(language: str, tmp_path: Path) -> None:
    assert heard_track(write_tracks(tmp_path / "first.mkv", [Track(language, DEFAULT), Track("fre")])) == 0
    assert heard_track(write_tracks(tmp_path / "last.mkv", [Track("qad", DEFAULT), Track(language)])) == 1


def test_flagged_track_is_heard_when_it_is_all_there_is(tmp_path: Path) -> None:
    assert heard_track(write_tracks(tmp_path / "only.nut", [Track(disposition=COMMENT)])) == 0


def test_default_track_is_heard_of_several_alike(tmp_path: Path) -> None:
    assert heard_track(write_tracks(tmp_path / "default.nut", [Track(), Track(disposition=DEFAULT), Track()])) == 1


def test_first_track_is_heard_of_several_alike(tmp_path: Path) -> None:
    assert heard_track(write_tracks(tmp_path / "first.nut", [Track(), Track()])) == 0


# Languages


@pytest.mark.parametrize("tagged", ["de", "ger", "deu", "de-AT", "GER", "deu_CH"])
@pytest.mark.parametrize("asked", ["de", "ger", "deu"])
def test_asked_language_is_heard_however_it_is_tagged(tagged: str, asked: str, tmp_path: Path) -> None:
    tracks = [Track("eng", DEFAULT), Track(tagged)]
    assert heard_track(write_tracks(tmp_path / "two.nut", tracks), asked) == 1


@pytest.mark.parametrize("tagged", ["und", None, "mul"])
def test_untagged_track_is_heard_before_one_of_another_language(tagged: str | None, tmp_path: Path) -> None:
    tracks = [Track("fre", DEFAULT), Track(tagged)]
    assert heard_track(write_tracks(tmp_path / "two.nut", tracks), "en") == 1


def test_dub_in_the_asked_language_is_heard(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "dub.nut", [Track("eng", DEFAULT), Track("deu", DUB)])
    assert (heard_track(path, "de"), heard_track(path, "en"), heard_track(path)) == (1, 0, 0)


def test_commentary_in_the_asked_language_is_not_the_main_sound(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "comment.nut", [Track("eng", COMMENT), Track()])
    assert heard_track(path, "en") == 1


@pytest.mark.parametrize(
    "codes",
    [
        "en eng en-GB",
        "de ger deu",
        "fr fre fra",
        "zh chi zho cmn",
        "cs cze ces",
        "no nb nob",
        "he iw heb",
        "el gre ell",
    ],
)
def test_codes_of_one_language_are_the_same(codes: str) -> None:
    assert len({language_key(code) for code in codes.split()}) == 1


@pytest.mark.parametrize("code", [None, "", "und", "mul", "qaa", "zxx"])
def test_codes_of_no_language_name_none(code: str | None) -> None:
    assert language_key(code) is None


def test_tracks_in_several_languages_are_named_in_a_warning(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "two.nut", [Track("ger", DEFAULT), Track("eng")])
    [warning] = probe(path)[2].warnings
    assert warning.code == "sound_tracks"
    assert warning.message == (
        "the words are those of the sound track 1 (ger); other tracks (2 (eng)) are left out; "
        "submit with a language to choose"
    )
    assert probe(path, "en")[2].warnings == ()
    assert len(probe(path, "fr")[2].warnings) == 1


def test_single_track_in_another_language_gives_no_warning(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "one.nut", [Track("ger")])
    assert heard_track(path, "en") == 0
    assert probe(path, "en")[2].warnings == ()


# Silence


@pytest.mark.parametrize("length_s", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_silent_first_track_is_left_for_one_with_sound(suffix: str, length_s: float, tmp_path: Path) -> None:
    silent = Track(disposition=DEFAULT, sounds_from_s=None, length_s=length_s)
    assert heard_track(write_tracks(tmp_path / f"silent.{suffix}", [silent, Track()], seconds=4.0)) == 1


def test_silent_track_in_the_asked_language_is_left(tmp_path: Path) -> None:
    tracks = [Track("eng", DEFAULT, sounds_from_s=None), Track("ger")]
    assert heard_track(write_tracks(tmp_path / "silent.mkv", tracks), "en") == 1


def test_silent_main_track_is_left_for_a_commentary(tmp_path: Path) -> None:
    assert heard_track(write_tracks(tmp_path / "silent.nut", [SILENT, Track(disposition=COMMENT)])) == 1


def test_track_that_sounds_late_is_not_silent(tmp_path: Path) -> None:
    tracks = [Track(disposition=DEFAULT, sounds_from_s=45.0), Track()]
    assert heard_track(write_tracks(tmp_path / "late.mkv", tracks, seconds=60.0)) == 0


def test_first_of_silent_tracks_is_heard(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "silent.mkv", [SILENT, Track(sounds_from_s=None)])
    assert probe(path)[2].timeline.parts[0].sound == (1,)
    assert heard_track(path) is None


# Programs


def test_sound_is_of_the_same_program_as_the_pictures(tmp_path: Path) -> None:
    small = write_program(tmp_path / "small.ts", 1, [Track(), Track()])
    large = write_program(tmp_path / "large.ts", 2, [SILENT, Track(), Track()], size=(128, 96))
    for number, programs in enumerate([(small, large), (large, small)]):
        path = join_programs(tmp_path / f"both{number}.ts", *programs)
        info = probe(path)[2]
        assert info.width == 128
        assert heard_track(path) == 1
    assert info.warnings == ()


def test_pictures_are_of_a_program_with_sound(tmp_path: Path) -> None:
    large = write_program(tmp_path / "large.ts", 1, [], size=(128, 96))
    small = write_program(tmp_path / "small.ts", 2, [Track()])
    path = join_programs(tmp_path / "both.ts", large, small)
    assert probe(path)[2].width == 64
    assert heard_track(path) == 0


# Parts


def test_silent_track_of_a_later_part_is_left(tmp_path: Path) -> None:
    files = [
        write_tracks(tmp_path / "0.mkv", [Track()]),
        write_tracks(tmp_path / "1.mkv", [SILENT, SILENT, Track()]),
    ]
    path = tmp_path / "joined.mkv"
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    assert [part.sound for part in probe(path)[2].timeline.parts] == [(1,), (3,)]


# Stills beside the pictures


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "mjpeg"), ("mp4", "mjpeg"), ("mov", "png"), ("mp4", "mpeg4")])
def test_moving_pictures_are_watched_beside_a_large_still(suffix: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"poster.{suffix}"
    with av.open(str(path), "w") as container:
        still: Any = container.add_stream(codec, rate=25)
        still.width, still.height, still.pix_fmt = 320, 240, {"mjpeg": "yuvj420p", "png": "rgb24"}.get(codec, "yuv420p")
        video: Any = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        container.mux(still.encode(av.VideoFrame.from_ndarray(Shot(1.0, 9).picture(0, 320, 240), "rgb24")))
        container.mux(still.encode(None))
        for number in range(25):
            container.mux(video.encode(av.VideoFrame.from_ndarray(Shot(1.0, 1).picture(number, 64, 48), "rgb24")))
        container.mux(video.encode(None))
    assert probe(path)[2].width == 64


# Reported files: track 1 or 2 is right


@pytest.mark.parametrize(
    ("name", "language", "index"),
    [
        ("06_first_track_silent.mp4", None, 2),
        ("07_audio_description_first.ts", None, 2),
        ("08_commentary_first.mkv", None, 2),
        ("09_two_programs.ts", None, 3),
        ("32_tracks_ger_then_eng.mkv", "en", 2),
        ("32_tracks_ger_then_eng.mkv", "de", 1),
    ],
)
def test_reported_tracks_are_chosen(name: str, language: str | None, index: int) -> None:
    assert probe(reported(name), language)[2].timeline.parts[0].sound == (() if index is None else (index,))
