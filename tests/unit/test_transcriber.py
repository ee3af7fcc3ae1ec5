"""Words with times that fit the video, nothing where nothing was said, and models found by name."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from media_files import Shot, Sound, tone, write_video

from actors.stages.audio_reader import speech_windows
from actors.stages.media_file import open_media, sound_stream
from actors.stages.media_reader import MediaReader
from actors.stages.transcriber import Transcriber
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.media import SPEECH_RATE_HZ, LocalVideo, MediaLimits, SpeechWindow
from cluster.contracts.results import Transcript
from cluster.models.speech import model_directory
from cluster.storage import FetchLimits

SPEECH = Path(__file__).parents[3] / "shared" / "media" / "jfk.flac"
SAID = (
    *("and", "so", "my", "fellow", "americans", "ask", "not", "what", "your", "country", "can", "do", "for"),
    *("you", "ask", "what", "you", "can", "do", "for", "your", "country"),
)

needs_speech = pytest.mark.skipif(not SPEECH.exists(), reason=f"real speech is not here: {SPEECH}")


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber("bundled", "cpu", "int8", threads=1)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    with open_media(SPEECH, max_pixels=1_000_000) as media:
        stream = sound_stream(media.container)
        assert stream is not None
        [window] = speech_windows(media, stream, 0.0, 60.0)
    return window.samples


def said(transcript: Transcript) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z']+", " ".join(word.text for word in transcript.words).lower()))


def assert_times_fit(transcript: Transcript, windows: Sequence[SpeechWindow]) -> None:
    end_s = max(window.start_s + window.duration_s for window in windows)
    times = [time_s for word in transcript.words for time_s in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert all(0.0 <= time_s <= end_s for time_s in times)
    assert all(0.0 <= word.probability <= 1.0 for word in transcript.words)
    for segment in transcript.segments:
        assert segment.text == segment.text.strip() != ""
        assert all(segment.start_s <= word.start_s <= word.end_s <= segment.end_s for word in segment.words)
        assert all(word.text.strip() for word in segment.words)
        assert "".join(word.text for word in segment.words).strip() == segment.text


@needs_speech
def test_speech_under_moving_pictures_is_heard_word_for_word(
    tmp_path: Path, transcriber: Transcriber, speech: np.ndarray
) -> None:
    path = write_video(tmp_path / "speech.mp4", [Shot(11.0, 1)], [Sound(0.0, speech)])
    limits = MediaLimits(max_duration_s=60, max_pixels=10**6, max_fps=60, max_streams=4, max_bytes=10**8)
    reader = MediaReader(limits, FetchLimits(10**8, 10.0), tmp_path)
    video = LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)
    windows = list(reader.read_speech(video, reader.probe(video)))
    transcript = transcriber.transcribe(windows, None)
    assert said(transcript) == SAID
    assert (transcript.language, transcript.model) == ("en", transcriber.model_name)
    assert_times_fit(transcript, windows)


@needs_speech
def test_times_are_the_videos_own_in_every_window(transcriber: Transcriber, speech: np.ndarray) -> None:
    silence = np.zeros(8 * SPEECH_RATE_HZ, np.int16)
    windows = [SpeechWindow(100.0, np.concatenate([silence, speech])), SpeechWindow(119.0, speech)]
    transcript = transcriber.transcribe(windows, "en")
    assert said(transcript) == SAID * 2
    assert_times_fit(transcript, windows)
    first, second = transcript.words[0], transcript.words[len(SAID)]
    assert 107.5 <= first.start_s <= 109.0
    assert 118.5 <= second.start_s <= 120.0


@needs_speech
def test_what_is_said_before_the_first_picture_belongs_to_it(transcriber: Transcriber, speech: np.ndarray) -> None:
    windows = [SpeechWindow(-3.0, speech)]
    transcript = transcriber.transcribe(windows, None)
    assert said(transcript) == SAID
    assert transcript.words[0].start_s == 0.0
    assert_times_fit(transcript, windows)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.int16),
        np.zeros(1, np.int16),
        np.zeros(20 * SPEECH_RATE_HZ, np.int16),
        np.full(5 * SPEECH_RATE_HZ, -32768, np.int16),
        tone(5.0),
        np.random.default_rng(0).integers(-20_000, 20_000, 5 * SPEECH_RATE_HZ).astype(np.int16),
    ],
    ids=["nothing", "one sample", "silence", "clipped", "tone", "noise"],
)
def test_where_nothing_is_said_nothing_is_heard(transcriber: Transcriber, samples: np.ndarray) -> None:
    silent = Transcript(language=None, segments=(), model=transcriber.model_name)
    assert transcriber.transcribe([SpeechWindow(0.0, samples)], None) == silent
    assert transcriber.transcribe([SpeechWindow(0.0, samples)], "de") == silent


def test_a_video_without_sound_has_an_empty_transcript(transcriber: Transcriber) -> None:
    assert transcriber.transcribe([], "en") == Transcript(language=None, segments=(), model=transcriber.model_name)


@needs_speech
def test_an_english_model_does_not_pretend_to_know_another_language(
    transcriber: Transcriber, speech: np.ndarray
) -> None:
    with pytest.raises(ConfigurationError, match=r"knows only English.*HEIMDEX_WHISPER_MODEL"):
        transcriber.transcribe([SpeechWindow(0.0, speech)], "de")


def test_a_model_in_a_directory_is_the_same_as_bundled(tmp_path: Path) -> None:
    link = tmp_path / "whisper"
    link.symlink_to(model_directory("bundled"))
    assert Transcriber(str(link), "cpu", "int8", threads=1).model_name.startswith(f"{link}@")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("smal", "HEIMDEX_WHISPER_MODEL=smal: neither bundled, nor a directory, nor one of: tiny.en, "),
        ("/no/such/model", "HEIMDEX_WHISPER_MODEL=/no/such/model: no such directory"),
        (os.curdir, "HEIMDEX_WHISPER_MODEL=.: no model.bin in ."),
    ],
)
def test_a_model_that_is_not_there_is_named_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        model_directory(name)
    assert str(caught.value).startswith(sentence)


def test_a_hub_that_cannot_be_reached_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(
        ConfigurationError,
        match=r"hub could not be reached; set HEIMDEX_WHISPER_MODEL to a dir.* or to bundled",
    ):
        model_directory("small")


def test_a_compute_type_that_the_device_cannot_do_is_named() -> None:
    with pytest.raises(ConfigurationError, match="cannot be loaded on cpu with compute type int8_float16"):
        Transcriber("bundled", "cpu", "int8_float16", threads=1)
