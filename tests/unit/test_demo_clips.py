"""The demo clips' promises: truth that fits the files, an answer per query, speech that is understood."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import jiwer
import pytest
from faster_whisper import WhisperModel

from cluster.demo import clips, queries, truth
from cluster.models.speech import model_directory
from tests.demo_maker.screenplay import CLIPS

CLIP_PATHS = clips()
each_clip = pytest.mark.parametrize("clip", CLIP_PATHS, ids=lambda path: path.name)


def plain_words(text: str) -> str:
    """Lower case without punctuation; the narration has no numbers."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower().replace("-", " ")).split())


def test_every_film_of_the_screenplay_is_there_and_all_are_small() -> None:
    assert [path.name for path in CLIP_PATHS] == sorted(clip.file for clip in CLIPS)
    assert sum(path.stat().st_size for path in CLIP_PATHS) <= 8_000_000


@each_clip
def test_scenes_tile_the_clip_at_its_cuts_and_dissolves(clip: Path) -> None:
    known = truth(clip)
    assert known.scenes[0].start_s == 0.0
    assert known.scenes[-1].end_s == known.duration_s
    assert all(before.end_s == after.start_s for before, after in pairwise(known.scenes))
    middles = [round((fade.start_s + fade.end_s) / 2, 4) for fade in known.dissolves]
    assert sorted([*known.cuts_s, *middles]) == [scene.start_s for scene in known.scenes[1:]]
    assert known.words == " ".join(scene.words for scene in known.scenes)


@each_clip
def test_truth_agrees_with_the_file(clip: Path) -> None:
    known = truth(clip)
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == (known.width, known.height)
        assert len(container.streams.audio) == 1
        times = [frame.time for frame in container.decode(video=0)]
        assert (container.duration or 0) / av.time_base == pytest.approx(known.duration_s, abs=0.1)
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(known.duration_s - 1 / known.fps, abs=0.002)
    for scene in known.scenes:
        assert min(abs(time - scene.start_s) for time in times) < 0.002
    gaps = {round((after - before) * known.fps) for before, after in pairwise(times)}
    assert (gaps != {1}) == known.variable_frame_rate


def test_containers_codecs_and_kinds_of_transition_vary() -> None:
    codecs = set()
    for clip in CLIP_PATHS:
        with av.open(str(clip)) as container:
            codecs.add((clip.suffix, container.streams.video[0].codec_context.name.removeprefix("lib")))
    assert {suffix for suffix, _ in codecs} == {".mp4", ".mov", ".webm"}
    assert len({codec for _, codec in codecs}) >= 2
    known = [truth(clip) for clip in CLIP_PATHS]
    assert {24, 25, 30} == {one.fps for one in known}
    assert sum(len(one.dissolves) for one in known) == 1
    assert sum(one.variable_frame_rate for one in known) == 1


def test_each_query_has_one_right_answer() -> None:
    scenes = [(clip, number, scene) for clip in CLIP_PATHS for number, scene in enumerate(truth(clip).scenes)]
    shown = Counter((scene.shape, scene.colour, scene.place) for _, _, scene in scenes)
    assert set(shown.values()) == {1}
    by_kind = Counter(query.kind for query in queries())
    assert by_kind["visual"] >= 24
    assert by_kind["spoken"] >= 12
    assert max(Counter(query.text for query in queries()).values()) == 1
    for query in queries():
        if query.kind == "spoken":
            asked = set(plain_words(query.text).split())
            answers = [(clip, n) for clip, n, scene in scenes if asked <= set(plain_words(scene.words).split())]
            assert answers == [(query.clip, query.scene)]


def test_the_bundled_speech_model_understands_the_narration() -> None:
    model = WhisperModel(str(model_directory("bundled")), device="cpu", compute_type="int8", cpu_threads=2)
    said, heard = [], []
    for clip in CLIP_PATHS:
        segments, _ = model.transcribe(
            str(clip), beam_size=5, vad_filter=True, condition_on_previous_text=False, word_timestamps=True
        )
        said.append(plain_words(truth(clip).words))
        heard.append(plain_words(" ".join(segment.text for segment in segments)))
    assert jiwer.wer(said, heard) <= 0.03
