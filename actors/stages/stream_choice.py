"""Which of a file's streams are the video: its pictures, and the sound that belongs to them.

Owns the order of preference. Leaves to ``main_sound`` which tracks are commentary and the like, to ``silence`` which
tracks hold any sound, to ``separate_sound`` which hold sound of their own, to ``languages`` which codes name the same
language.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from actors.stages.main_sound import is_main_sound
from actors.stages.media_file import codec_name, is_decodable
from actors.stages.separate_sound import separate_tracks
from actors.stages.silence import holds_sound
from cluster.contracts.errors import InvalidVideo
from cluster.contracts.languages import language_key
from cluster.contracts.media import WHOLE_FILE, FilePart, MediaWarning

NOT_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
MAIN_SOUND_CHANGED = Disposition.dub | Disposition.hearing_impaired
"""All of the words, but not as they were spoken."""
STILL_CODECS = frozenset({"bmp", "gif", "jpeg2000", "jpegls", "mjpeg", "png", "ppm", "targa", "tiff", "webp"})
"""Codecs of photographs; a video may consist of such, but where there is another beside them, that is the video."""
MOST_PROBED = 8
SOUND_TRACKS = "sound_tracks"
"""Code of the warning that several tracks may be the right one."""

_PROGRAM = re.compile(r"^  (?:(?P<program>Program \d+)|(?P<rest>No Program))")
_STREAM = re.compile(r"^  Stream #0:(?P<index>\d+)")


@dataclass(frozen=True)
class SoundChoice:
    """The track to listen to, None when there is none; what was left out where that is in doubt."""

    stream: AudioStream | None
    warnings: tuple[MediaWarning, ...] = ()


def picture_stream(container: InputContainer) -> VideoStream:
    """The stream of pictures to watch: of a program with sound, a moving one, the default one, the largest.

    Cover art that is marked as such is none. Raises ``InvalidVideo`` when there are no pictures or nothing here decodes
    them.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & NOT_PICTURES]
    if not streams:
        raise InvalidVideo(_why_no_pictures(container))
    decodable = [stream for stream in streams if is_decodable(stream)]
    if not decodable:
        raise InvalidVideo(f"the pictures' codec {codec_name(container, streams[0])} cannot be decoded")
    if len(decodable) == 1:
        return decodable[0]
    programs = programs_of(container)
    sound = {stream.index for stream in container.streams.audio if is_decodable(stream)}
    with_sound = set().union(*(program for program in programs if program & sound))
    return max(
        decodable,
        key=lambda stream: (
            stream.index in with_sound,
            _moves(stream),
            _is_default(stream),
            stream.width * stream.height,
            -stream.index,
        ),
    )


def _moves(stream: VideoStream) -> bool:
    """Whether a stream is likely to be more than a still beside the video: a poster, a cover without its mark."""
    return stream.frames != 1 and stream.codec_context.name not in STILL_CODECS


def _why_no_pictures(container: InputContainer) -> str:
    cover = ", only cover art" if container.streams.video else ""
    if container.streams.audio:
        return f"the file has sound but no pictures{cover}"
    return f"the file has neither pictures nor sound{cover}"


def choose_sound(container: InputContainer, language: str | None = None, part: FilePart = WHOLE_FILE) -> SoundChoice:
    """Choose the main sound of the program that the pictures belong to, in ``language`` where there is one.

    ``container`` is ``part`` of a file, opened. Commentary, audio description and the like come last, silent tracks
    after all others. Raises ``InvalidVideo`` when there is sound but nothing here decodes it.
    """
    streams = list(container.streams.audio)
    if not streams:
        return SoundChoice(None)
    decodable = [stream for stream in streams if is_decodable(stream)]
    if not decodable:
        raise InvalidVideo(f"the sound's codec {codec_name(container, streams[0])} cannot be decoded")
    if len(decodable) == 1 and len(container.streams.video) == 1:
        return SoundChoice(decodable[0])
    tracks = [_Track.of(stream, language) for stream in _beside_the_pictures(container, decodable)]
    tracks.sort(key=lambda track: track.rank, reverse=True)
    chosen = _first_with_sound(Path(container.name), part, tracks)
    if chosen is None:
        return SoundChoice(None)
    return SoundChoice(chosen.stream, _doubts(chosen, tracks) or _microphones(container, part, chosen, tracks))


@dataclass(frozen=True)
class _Track:
    """A track of sound and what speaks for it, the most important first."""

    stream: AudioStream
    language: str | None
    is_main: bool
    asked: int
    """2: it is tagged with the language that was asked for, 1: it may be in it, 0: it is tagged with another."""
    is_unchanged: bool

    @classmethod
    def of(cls, stream: AudioStream, asked: str | None) -> "_Track":
        language, wanted = language_key(stream.language), language_key(asked)
        return cls(
            stream=stream,
            language=language,
            is_main=is_main_sound(stream),
            asked=1 if wanted is None or language is None else 2 * (language == wanted),
            is_unchanged=not stream.disposition & MAIN_SOUND_CHANGED,
        )

    @property
    def rank(self) -> tuple[bool, int, bool, bool, int]:
        return self.is_main, self.asked, self.is_unchanged, _is_default(self.stream), -self.stream.index


def _beside_the_pictures(container: InputContainer, sound: Sequence[AudioStream]) -> list[AudioStream]:
    """The streams in the pictures' program, or else in no program; all where there are no programs."""
    programs = programs_of(container)
    if not programs:
        return list(sound)
    pictures = picture_stream(container).index
    beside = set().union(*(program for program in programs if pictures in program))
    anywhere = set().union(*programs)
    own = [stream for stream in sound if stream.index in beside]
    return own or [stream for stream in sound if stream.index not in anywhere]


def _first_with_sound(path: Path, part: FilePart, tracks: Sequence[_Track]) -> _Track | None:
    if len(tracks) < 2:
        return tracks[0] if tracks else None
    audible = (track for track in tracks[:MOST_PROBED] if holds_sound(path, part, track.stream.index))
    return next(audible, tracks[0])


def _doubts(chosen: _Track, tracks: Sequence[_Track]) -> tuple[MediaWarning, ...]:
    """A warning where as much speaks for tracks in other languages, or where no track is in the asked one."""
    alike = [track for track in tracks if track.is_main == chosen.is_main and track.asked == chosen.asked]
    languages = {track.language for track in alike}
    if len(languages) < 2 and chosen.asked:
        return ()
    own = _named(chosen)
    others = ", ".join(_named(track) for track in tracks if track is not chosen)
    message = f"the words are those of the sound track {own}; other tracks ({others}) are left out"
    return (MediaWarning(SOUND_TRACKS, f"{message}; submit with a language to choose"),)


def _microphones(
    container: InputContainer, part: FilePart, chosen: _Track, tracks: Sequence[_Track]
) -> tuple[MediaWarning, ...]:
    """A warning where a file has a mono track per microphone: of those that nothing distinguishes, one is used."""
    alike = [track for track in tracks if track is not chosen and _is_like(track, chosen)][: MOST_PROBED - 1]
    if not alike or programs_of(container):
        return ()
    indexes = [track.stream.index for track in alike]
    separate = separate_tracks(Path(container.name), part, chosen.stream.index, indexes)
    if not separate:
        return ()
    others = ", ".join(_named(track) for track in alike if track.stream.index in separate)
    message = (
        f"the words are those of the sound track {_named(chosen)}; further tracks with sound ({others}) are left out"
    )
    return (MediaWarning(SOUND_TRACKS, f"{message}; mix them into one track to have all of them transcribed"),)


def _is_like(track: _Track, chosen: _Track) -> bool:
    """Whether both are mono and of one kind, without a language, a title or a flag that speaks for one."""
    one, other = track.stream.codec_context, chosen.stream.codec_context
    return (
        track.language is chosen.language is None
        and (track.is_main, track.is_unchanged) == (chosen.is_main, chosen.is_unchanged)
        and one.layout.nb_channels == other.layout.nb_channels == 1
        and (one.name, one.sample_rate) == (other.name, other.sample_rate)
    )


def _named(track: _Track) -> str:
    return f"{track.stream.index} ({track.stream.language or 'no language'})"


def programs_of(container: InputContainer) -> list[frozenset[int]]:
    """The programs of a transport stream: the indexes of each one's streams."""
    programs: list[set[int]] = []
    current: set[int] | None = None
    for line in _described(container):
        if header := _PROGRAM.match(line):
            current = set()
            programs += [current] if header["program"] else []
        elif (stream := _STREAM.match(line)) and current is not None:
            current.add(int(stream["index"]))
    return [frozenset(program) for program in programs]


def late_streams(container: InputContainer) -> int:
    """Number of picture or sound streams that came up while the file was read: PyAV knows those from its opening."""
    lines = [line for line in _described(container) if ": Audio: " in line or ": Video: " in line]
    found = {int(stream["index"]) for line in lines if (stream := _STREAM.match(line))}
    return len(found - {stream.index for stream in container.streams})


def _described(container: InputContainer) -> list[str]:
    """What FFmpeg says of a file's programs and streams. PyAV gives them only in this text."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        lines: list[str] = container.dumps_format().splitlines()  # type: ignore[attr-defined]  # the stubs lack it
    finally:
        av.logging.set_level(level)
    return lines


def _is_default(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.default)
