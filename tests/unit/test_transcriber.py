"""Words with times that fit the video, nothing where nothing was said, and models found by name."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np
import pytest

from actors.stages.media_reader import MediaReader
from actors.stages.transcriber import SoundOfVideo, Transcriber
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.media import SPEECH_RATE_HZ, LocalVideo, MediaLimits, SpeechWindow
from cluster.contracts.results import Transcript
from cluster.demo import clips, truth
from cluster.models.speech import model_directory
from tests.support.file_by_file import recognised_file_by_file
from tests.support.media_files import Shot, Sound, tone, write_video
from tests.support.spoken_clips import narration, plain_words, recording_of, sentences

SPEECH = Path(__file__).parents[3] / "shared" / "media" / "jfk.flac"
SAID = (
    *("and", "so", "my", "fellow", "americans", "ask", "not", "what", "your", "country", "can", "do", "for"),
    *("you", "ask", "what", "you", "can", "do", "for", "your", "country"),
)

MOST_WORDS_WORSE = 2
"""So many more of the demo's 162 words than file by file may be wrong; the real voices have the finer bound."""

needs_speech = pytest.mark.skipif(not SPEECH.exists(), reason=f"real speech is not here: {SPEECH}")


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber("bundled", "cpu", "int8", threads=1)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return recording_of(SPEECH)


def said(transcript: Transcript) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z']+", " ".join(word.text for word in transcript.words).lower()))


def error_rate(expected: Sequence[str], recognised: Sequence[Sequence[str]]) -> float:
    return float(jiwer.wer([" ".join(words_of(text)) for text in expected], [" ".join(words) for words in recognised]))


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
    reader = MediaReader(limits)
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
def test_english_model_refuses_other_languages(transcriber: Transcriber, speech: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match=r"knows only English.*HEIMDEX_WHISPER_MODEL"):
        transcriber.transcribe([SpeechWindow(0.0, speech)], "de")


# Several videos at once


@pytest.fixture(scope="module")
def spoken() -> list[tuple[SpeechWindow, str]]:
    """Each sentence of three of the demo's clips as a video of its own, and what is said in it."""
    return [(SpeechWindow(0.0, sentence.samples), sentence.words) for sentence in sentences()]


def words_of(text: str) -> list[str]:
    return plain_words(text)


def test_short_videos_share_a_call_and_keep_their_own_words(
    transcriber: Transcriber, spoken: list[tuple[SpeechWindow, str]]
) -> None:
    heard = transcriber.transcribe_all([SoundOfVideo([window], None) for window, _ in spoken])
    recognised = []
    for (window, _), video in zip(spoken, heard, strict=True):
        assert isinstance(video.transcript, Transcript)
        assert_times_fit(video.transcript, [window])
        assert 0 < video.spoken_s <= window.duration_s
        recognised.append(said(video.transcript))
    expected = [words for _, words in spoken]
    theirs = [plain_words(text) for text in recognised_file_by_file([window.samples for window, _ in spoken])]
    allowed = MOST_WORDS_WORSE / sum(len(words_of(words)) for words in expected)
    assert error_rate(expected, recognised) <= error_rate(expected, theirs) + allowed + 1e-9


def test_noise_and_silence_beside_a_video_keep_its_words(
    transcriber: Transcriber, spoken: list[tuple[SpeechWindow, str]]
) -> None:
    noise = np.random.default_rng(1).integers(-20_000, 20_000, 8 * SPEECH_RATE_HZ).astype(np.int16)
    odd = [SpeechWindow(0.0, samples) for samples in (noise, np.zeros(5 * SPEECH_RATE_HZ, np.int16), tone(6.0))]
    window, words = spoken[0]
    heard = transcriber.transcribe_all([SoundOfVideo([one], "en") for one in (odd[0], window, odd[1], odd[2])])
    texts = [list(said(video.transcript)) for video in heard if isinstance(video.transcript, Transcript)]
    assert texts == [[], words_of(words), [], []]


def test_the_same_sentence_in_many_videos_is_heard_once_in_each(
    transcriber: Transcriber, spoken: list[tuple[SpeechWindow, str]]
) -> None:
    window, words = spoken[0]
    heard = transcriber.transcribe_all([SoundOfVideo([window], "en")] * 6)
    for video in heard:
        assert isinstance(video.transcript, Transcript)
        assert list(said(video.transcript)) == words_of(words)


def test_unknown_language_fails_only_its_own_video(
    transcriber: Transcriber, spoken: list[tuple[SpeechWindow, str]]
) -> None:
    heard = transcriber.transcribe_all(
        [SoundOfVideo([window], language) for (window, _), language in zip(spoken[:3], ("en", "de", None), strict=True)]
    )
    assert isinstance(heard[1].transcript, ConfigurationError)
    for number in (0, 2):
        transcript = heard[number].transcript
        assert isinstance(transcript, Transcript)
        assert list(said(transcript)) == words_of(spoken[number][1])


def test_a_long_recording_is_heard_whole(transcriber: Transcriber) -> None:
    window = SpeechWindow(0.0, narration())
    transcript = transcriber.transcribe([window], None)
    expected = " ".join(truth(clip).words for clip in clips()[:3])
    theirs = [plain_words(text) for text in recognised_file_by_file([window.samples])]
    allowed = MOST_WORDS_WORSE / len(words_of(expected))
    assert error_rate([expected], [said(transcript)]) <= error_rate([expected], theirs) + allowed + 1e-9
    assert len(transcript.segments) >= 8
    assert_times_fit(transcript, [window])


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
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # no server listens there
    with pytest.raises(
        ConfigurationError,
        match=r"hub could not be reached; set HEIMDEX_WHISPER_MODEL to a dir.* or to bundled",
    ):
        model_directory("small")


def test_a_compute_type_that_the_device_cannot_do_is_named() -> None:
    with pytest.raises(ConfigurationError, match="cannot be loaded on cpu with compute type int8_float16"):
        Transcriber("bundled", "cpu", "int8_float16", threads=1)
