"""One clock for pictures, sound and scenes, on every container, as a player shows the file."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from actors.stages import survey
from tests.support.clock_files import CODECS, Clip, join, write_clip
from tests.support.media_files import Recipe, Shot, write_pictures
from tests.support.read_files import Expected, assert_read, read
from tests.support.reported import reported

# One zero of time

OFFSETS = [
    ("together", 0.0, 0.0),
    ("pictures-later", 2.0, 0.0),
    ("sound-later", 0.0, 2.0),
    ("both-at-100s", 100.0, 100.0),
    ("sound-first-at-100s", 102.0, 100.0),
    ("at-26-hours", 93_600.0, 93_600.0),
]
WITH_OFFSETS = [suffix for suffix in CODECS if suffix != "avi"]  # AVI counts all streams from 0
PLACED = [(s, *offset[1:]) for s in WITH_OFFSETS for offset in OFFSETS if (s, offset[0]) != ("wmv", "at-26-hours")]
PLACED_NAMES = ["-".join(map(str, placed)) for placed in PLACED]


@pytest.mark.parametrize(("suffix", "pictures_s", "sound_s"), PLACED, ids=PLACED_NAMES)
def test_times_count_from_the_files_start(tmp_path: Path, suffix: str, pictures_s: float, sound_s: float) -> None:
    clip = Clip(3.0, 3.0, (1.2,), (0.4, 2.2), pictures_s, sound_s)
    path = write_clip(tmp_path / f"clip.{suffix}", clip)
    zero_s = min(pictures_s, sound_s)
    pictures_at_s, sound_at_s = pictures_s - zero_s, sound_s - zero_s
    expected = Expected(
        3.0 + max(pictures_at_s, sound_at_s), (pictures_at_s + 1.2,), (sound_at_s + 0.4, sound_at_s + 2.2)
    )
    found = assert_read(path, expected)
    assert pictures_at_s - 0.1 <= found.first_key_frame_s < pictures_at_s + 1.2


# One clock for all streams

PIECES = {
    "alike": [Clip(beeps_s=(0.5,)), Clip(beeps_s=(0.7,), seed=3), Clip(beeps_s=(0.3,), seed=5)],
    "sound-shorter": [Clip(sound_s=1.2), Clip(sound_s=0.9, seed=3), Clip(sound_s=1.5, beeps_s=(1.1,), seed=5)],
    "sound-longer": [Clip(1.4, 2.0), Clip(1.2, 2.0, beeps_s=(1.6,), seed=3), Clip(2.0, 1.0, seed=5)],
    "sound-first": [Clip(1.6, 2.0, pictures_from_s=0.4), Clip(1.6, 2.0, pictures_from_s=0.4, seed=3)],
    "pictures-first": [Clip(2.0, 1.6, sound_from_s=0.4), Clip(2.0, 1.6, sound_from_s=0.4, seed=3)],
    "from-elsewhere": [
        Clip(pictures_from_s=500.0, sound_from_s=500.0),
        Clip(pictures_from_s=20.0, sound_from_s=20.0, seed=3),
        Clip(pictures_from_s=90_000.0, sound_from_s=90_000.0, seed=5),
    ],
}
JOINED = [(suffix, kind) for suffix in ("ts", "mpg", "flv", "webm", "ogv") for kind in PIECES]


def joined(pieces: list[Clip]) -> Expected:
    """The expected contents of pieces one after the other, each until its last stream ends."""
    begin_s, cuts_s, beeps_s = 0.0, [], []
    for piece in pieces:
        zero_s = min(piece.pictures_from_s, piece.sound_from_s)
        cuts_s.append(begin_s + piece.pictures_from_s - zero_s)
        beeps_s += [begin_s + piece.sound_from_s - zero_s + beep_s for beep_s in piece.beeps_s]
        begin_s += max(piece.pictures_from_s + piece.pictures_s, piece.sound_from_s + piece.sound_s) - zero_s
    return Expected(begin_s, tuple(cuts_s[1:]), tuple(beeps_s), within_s=0.15)


@pytest.mark.parametrize(("suffix", "kind"), JOINED)
def test_joined_pieces_follow_one_another(tmp_path: Path, suffix: str, kind: str) -> None:
    pieces = PIECES[kind]
    files = [write_clip(tmp_path / f"{number}.{suffix}", piece) for number, piece in enumerate(pieces)]
    assert_read(join(tmp_path / f"joined.{suffix}", *files), joined(pieces))


def test_joined_fragments_of_mp4_sound_one_after_another(tmp_path: Path) -> None:
    fragmented = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)
    pieces = [Clip(options=fragmented), Clip(options=fragmented, beeps_s=(0.9,), seed=3)]
    files = [write_clip(tmp_path / f"{number}.mp4", piece) for number, piece in enumerate(pieces)]
    found = read(join(tmp_path / "joined.mp4", *files))
    assert found.end_s == pytest.approx(4.0, abs=0.2)
    assert found.beeps_s == pytest.approx([0.5, 2.9], abs=0.25)


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
@pytest.mark.parametrize("jump_s", [15.0, 600.0, 40_000.0, 90_000.0])
def test_clock_that_jumps_on_leaves_no_gap(tmp_path: Path, suffix: str, jump_s: float) -> None:
    clip = Clip(4.0, 4.0, (1.0, 3.0), (0.5, 1.5, 2.5, 3.5), jump=(2.0, jump_s))
    assert_read(write_clip(tmp_path / f"jump.{suffix}", clip), Expected(4.0, clip.cuts_s, clip.beeps_s))


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
@pytest.mark.parametrize("before_s", [1.5, 61.5])
def test_clock_that_wraps_counts_on(tmp_path: Path, suffix: str, before_s: float) -> None:
    from_s = 2**33 / 90_000 - before_s
    length_s = before_s + 2.0
    clip = Clip(length_s, length_s, (1.0, length_s - 1.0), (0.5, length_s - 0.5), from_s, from_s)
    assert_read(write_clip(tmp_path / f"wrap.{suffix}", clip), Expected(length_s, clip.cuts_s, clip.beeps_s))


@pytest.mark.parametrize(("suffix", "gap_s"), [("mkv", 40.0), ("mp4", 40.0), ("flv", 40.0), ("ts", 6.0), ("mpg", 8.0)])
def test_pause_in_all_streams_is_no_jump(tmp_path: Path, suffix: str, gap_s: float) -> None:
    clip = Clip(4.0, 4.0, (2.0,), (0.5, 3.5), jump=(2.0, gap_s))
    expected = Expected(4.0 + gap_s, (2.0 + gap_s,), (0.5, 3.5 + gap_s), within_s=0.15)
    assert_read(write_clip(tmp_path / f"pause.{suffix}", clip), expected)


@pytest.mark.parametrize("suffix", ["ts", "mkv", "flv"])
def test_pictures_that_pause_while_the_sound_goes_on_are_no_jump(tmp_path: Path, suffix: str) -> None:
    clip = Clip(20.0, 20.0, (18.0,), (0.5, 10.0, 19.0), paused_s=(2.0, 18.0))
    assert_read(write_clip(tmp_path / f"still.{suffix}", clip), Expected(20.0, (18.0,), clip.beeps_s))


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
@pytest.mark.parametrize("gaps_s", [(12.0,) * 5, (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)], ids=["even", "growing"])
def test_slides_without_sound_keep_their_pace(tmp_path: Path, suffix: str, gaps_s: tuple[float, ...]) -> None:
    times_s = [0.0, *np.cumsum(gaps_s)]
    slides = [(float(time_s), Shot(1.0, number + 1).picture(0, 160, 120)) for number, time_s in enumerate(times_s)]
    path = write_pictures(tmp_path / f"slides.{suffix}", slides, Recipe(fps=25))
    found = read(path)
    assert found.info.duration_s == pytest.approx(sum(gaps_s), abs=gaps_s[-1] + 0.2)
    assert found.info.timeline.parts[0].shifts == ()


def test_slides_of_a_transport_stream_are_shown_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "reordered.ts"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(1, 5), options={"bf": "3", "b-pyramid": "normal"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(Shot(1.0, number + 1).picture(0, 160, 120), "rgb24")
            frame.pts, frame.time_base = number, Fraction(5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = read(path)
    assert found.starts_s == pytest.approx([5.0 * number for number in range(8)], abs=0.01)
    assert found.end_s == pytest.approx(40.0, abs=0.01)


# Complete and incomplete


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv", "webm", "mpg", "wmv"])
@pytest.mark.parametrize(("pictures_s", "sound_s"), [(1.0, 9.0), (0.04, 4.0), (6.0, 1.0)])
def test_streams_of_unlike_length_are_complete(tmp_path: Path, suffix: str, pictures_s: float, sound_s: float) -> None:
    clip = Clip(pictures_s, sound_s, beeps_s=(sound_s - 0.5,))
    assert_read(write_clip(tmp_path / f"clip.{suffix}", clip), Expected(max(pictures_s, sound_s), (), clip.beeps_s))


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
@pytest.mark.parametrize("share", [0.15, 0.6])
def test_cut_within_a_group_of_pictures_is_no_damage(tmp_path: Path, suffix: str, share: float) -> None:
    clip = Clip(16.0, 16.0, (4.0, 12.0), (1.0, 15.0), group=150)
    data = write_clip(tmp_path / f"whole.{suffix}", clip).read_bytes()
    begin = int(len(data) * share) // 188 * 188
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(data[begin : len(data) - 1000])
    found = read(path)
    assert found.info.duration_s == pytest.approx(16.0 * (1 - share), abs=3.0)
    assert len(found.beeps_s) == 1


def test_first_picture_far_into_the_file_is_found(tmp_path: Path) -> None:
    clip = Clip(50.0, 0.0, (), (), group=700)
    data = write_clip(tmp_path / "whole.ts", clip).read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(data[188 * 40 :])
    found = read(path)
    assert found.info.duration_s == pytest.approx(50.0, abs=3.0)
    assert found.first_key_frame_s > 25.0


def test_rate_of_raw_dv_is_that_of_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "raw.dv"
    encoder = av.CodecContext.create("dvvideo", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 720, 480, "yuv411p"
    encoder.time_base = Fraction(1001, 30_000)
    frames = [
        av.VideoFrame.from_ndarray(Shot(1, 1).picture(n, 720, 480), "rgb24").reformat(format="yuv411p")
        for n in range(10)
    ]
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, encoder.time_base
    path.write_bytes(b"".join(bytes(packet) for frame in frames for packet in encoder.encode(frame)))
    found = read(path)
    assert found.info.fps == pytest.approx(29.97, abs=0.01)
    assert found.end_s == pytest.approx(0.334, abs=0.05)


# Streams that change


CHANGED = {
    "identifiers": [Clip(), Clip(beeps_s=(0.9,), seed=3, first_id=0x300), Clip(beeps_s=(0.3,), seed=5, first_id=0x500)],
    "codec": [Clip(), Clip(beeps_s=(0.9,), seed=3, video_codec="mpeg2video"), Clip(beeps_s=(0.3,), seed=5)],
    "sound-begins": [Clip(sound_s=0.0, beeps_s=()), Clip(beeps_s=(0.9,), seed=3)],
    "sound-ends": [Clip(), Clip(sound_s=0.0, beeps_s=(), seed=3)],
}


@pytest.mark.parametrize("kind", CHANGED)
def test_streams_that_change_midway_are_followed(tmp_path: Path, kind: str) -> None:
    pieces = CHANGED[kind]
    files = [write_clip(tmp_path / f"{number}.ts", piece) for number, piece in enumerate(pieces)]
    found = assert_read(join(tmp_path / "joined.ts", *files), joined(pieces))
    assert found.info.warnings == ()


@pytest.mark.parametrize("suffix", ["flv", "wmv", "mkv", "avi", "ogv"])
def test_whole_files_joined_are_read_one_after_another(tmp_path: Path, suffix: str) -> None:
    pieces = [Clip(), Clip(beeps_s=(0.9,), seed=3), Clip(beeps_s=(0.3,), seed=5)]
    files = [write_clip(tmp_path / f"{number}.{suffix}", piece) for number, piece in enumerate(pieces)]
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    found = assert_read(path, replace(joined(pieces), within_s=0.35))
    assert len(found.info.timeline.parts) == len(pieces)


@pytest.mark.parametrize("flags", ["", "+default_base_moof", "+empty_moov", "+empty_moov+default_base_moof+delay_moov"])
def test_fragmented_mp4_files_joined_are_read_one_after_another(tmp_path: Path, flags: str) -> None:
    options = (("movflags", f"frag_keyframe{flags}"),)
    pieces = [
        Clip(4.0, 4.0, (2.0,), (0.5, 3.5), options=options),
        Clip(4.0, 4.0, (2.0,), (0.5, 3.5), seed=7, options=options),
        Clip(2.0, 2.0, (), (0.3,), seed=9, options=options),
    ]
    files = [write_clip(tmp_path / f"{number}.mp4", piece) for number, piece in enumerate(pieces)]
    expected = Expected(10.0, (2.0, 4.0, 6.0, 8.0), (0.5, 3.5, 4.5, 7.5, 8.3), within_s=0.35)
    found = assert_read(join(tmp_path / "joined.mp4", *files), expected)
    assert len(found.info.timeline.parts) == len(pieces)


def test_avi_of_several_riffs_is_one_file(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "clip.avi", Clip()).read_bytes()
    path = tmp_path / "extended.avi"
    path.write_bytes(data + b"RIFF" + (4).to_bytes(4, "little") + b"AVIX")
    assert len(read(path).info.timeline.parts) == 1


def test_sound_late_in_a_transport_stream_has_its_times(tmp_path: Path) -> None:
    several_in_one = (("max_delay", "700000"),)  # packets of sound of which only the first has a time
    clip = Clip(12.0, 3.0, (5.0,), (0.5, 2.5), sound_from_s=9.0, audio_codec="aac", options=several_in_one)
    expected = Expected(12.0, clip.cuts_s, (9.5, 11.5))
    assert_read(write_clip(tmp_path / "late.ts", clip), expected)


LATE = [Clip(8.0, 0.0, (4.0,), ()), Clip(4.0, 4.0, (2.0,), (0.5, 3.0), 8.0, 8.0, seed=5)]


def test_sound_that_an_flv_file_does_not_announce_is_followed(tmp_path: Path) -> None:
    files = [write_clip(tmp_path / f"{number}.flv", piece) for number, piece in enumerate(LATE)]
    expected = Expected(12.0, (4.0, 8.0, 10.0), (8.5, 11.0))
    assert assert_read(join(tmp_path / "late.flv", *files), expected).info.warnings == ()


def test_unannounced_flv_pictures_are_followed(tmp_path: Path) -> None:
    pieces = [Clip(0.0, 8.0, (), (0.5,)), Clip(4.0, 4.0, (2.0,), (0.5,), 8.0, 8.0, seed=5)]
    files = [write_clip(tmp_path / f"{number}.flv", piece) for number, piece in enumerate(pieces)]
    expected = Expected(12.0, (10.0,), (0.5, 8.5))
    assert assert_read(join(tmp_path / "late.flv", *files), expected).info.warnings == ()


def test_sound_too_late_to_be_found_gives_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_PROBED_BYTES", 2**10)
    files = [write_clip(tmp_path / f"{number}.flv", piece) for number, piece in enumerate(LATE)]
    found = read(join(tmp_path / "late.flv", *files))
    assert found.beeps_s == []
    [warning] = found.info.warnings
    assert warning.message == "what begins in 1 further streams after 1,024 bytes is left out"


def test_sound_that_a_joined_piece_brings_begins_with_it(tmp_path: Path) -> None:
    pieces = [Clip(14.0, 0.0, (), ()), Clip(2.0, 2.0, seed=3)]
    files = [write_clip(tmp_path / f"{number}.mpg", piece) for number, piece in enumerate(pieces)]
    assert_read(join(tmp_path / "joined.mpg", *files), joined(pieces))


def test_packets_without_data_keep_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "still.nut"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(Shot(1.0, 1 + number // 50).picture(number, 96, 72), "rgb24")
            for packet in stream.encode(frame):
                if number % 50 >= 5:
                    empty = av.Packet(b"")
                    empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
                    empty.stream, packet = packet.stream, empty
                container.mux(packet)
    found = read(path)
    assert found.starts_s == pytest.approx([0.0, 2.0], abs=0.05)
    assert found.end_s == pytest.approx(4.0, abs=0.1)
    assert found.blocks[-1].warnings == ()


def test_part_without_pictures_is_left_out_with_a_warning(tmp_path: Path) -> None:
    files = [write_clip(tmp_path / "0.ts", Clip()), write_clip(tmp_path / "1.ts", Clip(pictures_s=0.0, first_id=0x300))]
    found = read(join(tmp_path / "joined.ts", *files))
    assert found.end_s == pytest.approx(2.0, abs=0.1)
    [warning] = found.info.warnings
    assert warning.code == "part_left_out"
    assert warning.message.endswith("on is left out: the file has sound but no pictures")


@pytest.mark.parametrize("suffix", ["ts", "ogv"])
def test_first_part_without_pictures_is_left_out_with_a_warning(tmp_path: Path, suffix: str) -> None:
    files = [
        write_clip(tmp_path / f"0.{suffix}", Clip(pictures_s=0.0)),
        write_clip(tmp_path / f"1.{suffix}", Clip(first_id=0x300)),
    ]
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    found = assert_read(path, Expected(2.0, (), (0.5,)))
    [warning] = found.info.warnings
    assert warning.message == "the part of the file from byte 0 on is left out: the file has sound but no pictures"


def test_second_of_joined_mp4_files_is_left_out_with_a_warning(tmp_path: Path) -> None:
    files = [write_clip(tmp_path / f"{number}.mp4", Clip(seed=number + 1)) for number in range(2)]
    found = read(join(tmp_path / "joined.mp4", *files))
    assert found.end_s == pytest.approx(2.0, abs=0.1)
    [warning] = found.info.warnings
    assert warning.message == f"another file begins at byte {files[0].stat().st_size:,}: it is left out, as players do"
    assert read(files[0]).info.warnings == ()


# Reported files: how long each is, where its scenes begin, when the voice is silent and when it speaks

SPOKEN_IN_REFERENCE = ((0.0, 0.6, False), (1.0, 5.0, True), (5.6, 6.3, False), (7.2, 11.0, True))
REPORTED: list[tuple[str, Expected, tuple[tuple[float, float, bool], ...]]] = [
    ("00_reference_ok.mp4", Expected(12.0, (4.0, 8.0)), SPOKEN_IN_REFERENCE),
    ("10_pictures_5s_later.mp4", Expected(17.0, (9.0, 13.0)), SPOKEN_IN_REFERENCE),
    ("11_pictures_5s_later.mkv", Expected(17.0, (9.0, 13.0)), SPOKEN_IN_REFERENCE),
    ("12_begins_at_100s.mkv", Expected(12.0, (4.0, 8.0)), SPOKEN_IN_REFERENCE),
    ("13_begins_at_100s.wmv", Expected(12.0, (4.0, 8.0)), SPOKEN_IN_REFERENCE),
    ("15_long_gop_cut.ts", Expected(37.8), ()),
    ("16_joined_four.ts", Expected(32.0, (8.0, 16.0, 24.0)), ()),
    ("18_clock_jumps_on.ts", Expected(16.0, (8.0,)), ()),
    ("19_clock_jumps_back.ts", Expected(16.0, (8.0,)), ()),
    ("20_pids_change.ts", Expected(16.0, (8.0,)), ()),
    ("21_sound_longer.mp4", Expected(12.0), SPOKEN_IN_REFERENCE),
    ("22_one_picture.mp4", Expected(12.0), SPOKEN_IN_REFERENCE),
    ("23_one_picture.mkv", Expected(12.0), SPOKEN_IN_REFERENCE),
    ("30_raw.dv", Expected(0.167), ()),
    ("33_joined.flv", Expected(24.0, (8.0, 16.0)), ()),
]


@pytest.mark.parametrize(("name", "expected", "spoken"), REPORTED, ids=[row[0] for row in REPORTED])
def test_reported_file_has_its_times(
    name: str, expected: Expected, spoken: tuple[tuple[float, float, bool], ...]
) -> None:
    found = read(reported(name))
    assert found.info.duration_s == pytest.approx(expected.duration_s, abs=0.1)
    assert found.end_s == pytest.approx(expected.duration_s, abs=0.1)
    assert found.starts_s == pytest.approx([0.0, *expected.cuts_s], abs=0.1)
    for begin_s, end_s, speaks in spoken:
        assert (found.loudness(begin_s, end_s) > 300) is speaks


def test_first_picture_of_reported_file_is_where_it_is_shown() -> None:
    assert 5.0 <= read(reported("10_pictures_5s_later.mp4")).first_key_frame_s < 9.0


@pytest.mark.parametrize(("name", "pieces"), [("16_joined_four.ts", 4), ("20_pids_change.ts", 2), ("33_joined.flv", 3)])
def test_sentences_of_reported_joins_begin_with_their_pieces(name: str, pieces: int) -> None:
    found = read(reported(name))
    for begin_s in range(0, 8 * pieces, 8):
        assert found.loudness(begin_s + 1.0, begin_s + 3.5) > 300
        assert found.loudness(begin_s + 6.5, begin_s + 7.9) < 300
