"""Describing scenes: batches that run across videos, tags by group, and the words of each scene."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from actors.stages.scene_embedder import SceneEmbedder, SceneModels, ScenesOfVideo, SpokenWords
from cluster.contracts.errors import ConfigurationError
from cluster.contracts.media import DetectedScene, SceneBlock
from cluster.contracts.results import Segment, Transcript, Word
from cluster.models.labels import CLIP_SCALE, SigmoidScale
from cluster.models.vision import load_vision_model
from tests.support.vector_lengths import EMBEDDING_DIM, MEANING_DIM

SILENCE = Transcript(None, (), "none")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColourModel:
    """A vision model that is exact and quick: a picture's mean colour, a label's colour, in three of 512 numbers."""

    name, key, image_size_px, label_scale = "colours", "colours@1", 64, CLIP_SCALE

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode_batches(self, batches: Iterator[Sequence[Any]]) -> Iterator[Any]:
        for pixels in batches:
            self.batches.append(len(pixels))
            yield self._rows([picture.reshape(-1, 3).mean(axis=0) for picture in pixels])

    def encode_texts(self, texts: Sequence[str]) -> Any:
        return self._rows([COLOURS.get(text.removeprefix("a photo of "), (1, 1, 1)) for text in texts])

    def _rows(self, colours: Sequence[Any]) -> Any:
        rows = np.zeros((len(colours), EMBEDDING_DIM), np.float32)
        rows[:, :3] = colours
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class LengthModel:
    """A text model that is exact and quick: a text's length, in the first of 384 numbers."""

    key, dimensions = "lengths@1", MEANING_DIM

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> Any:
        self.asked.append(list(texts))
        rows = np.zeros((len(texts), MEANING_DIM), np.float32)
        rows[:, 0] = [len(text) for text in texts]
        return rows

    encode_queries = encode


def embedder(model: Any, *groups: tuple[str, ...], batch_size: int = 4, key_frame_px: int = 64) -> SceneEmbedder:
    return SceneEmbedder(
        SceneModels(model, LengthModel()), groups or (("red", "green", "blue"),), key_frame_px, batch_size
    )


def scenes(*colours: tuple[int, int, int], first: int = 0) -> list[DetectedScene]:
    return [
        DetectedScene(index, float(index), index + 1.0, index + 0.5, np.full((64, 64, 3), colour, np.uint8))
        for index, colour in enumerate(colours, first)
    ]


def video(*colours: str, transcript: Transcript = SILENCE) -> ScenesOfVideo:
    """Blocks of two scenes that can be read only once."""
    found = scenes(*(COLOURS[colour] for colour in colours))
    blocks = [SceneBlock(tuple(found[at : at + 2])) for at in range(0, len(found), 2)]
    return ScenesOfVideo(iter(blocks), transcript)


def spoken(*words: tuple[float, float, str]) -> Transcript:
    return Transcript("en", (Segment(0.0, 9.0, "", tuple(Word(*word, probability=1.0) for word in words)),), "tiny")


def test_batches_run_across_videos_and_results_stay_with_theirs() -> None:
    model = ColourModel()
    found = embedder(model).describe(
        [video("red", "green", "blue"), video(), video("blue"), video(*["green", "red"] * 3)]
    )
    assert model.batches == [4, 4, 2]
    assert [[scene.tags for scene in scenes] for scenes in found] == [
        [("red",), ("green",), ("blue",)],
        [],
        [("blue",)],
        [("green",), ("red",)] * 3,
    ]
    assert [[scene.index for scene in scenes] for scenes in found] == [[0, 1, 2], [], [0], list(range(6))]


def test_never_more_than_a_batch_of_pictures_is_read_ahead() -> None:
    model = ColourModel()
    read: list[int] = []

    def blocks() -> Iterator[SceneBlock]:
        for index in range(6):
            read.append(index)
            assert len(read) - sum(model.batches) <= 2
            yield SceneBlock(tuple(scenes(COLOURS["red"], first=index)))

    (found,) = embedder(model, batch_size=2).describe([ScenesOfVideo(blocks(), SILENCE)])
    assert len(found) == 6


def test_nothing_to_describe_asks_the_model_nothing() -> None:
    model = ColourModel()
    assert embedder(model).describe([]) == []
    assert embedder(model).describe([video(), video()]) == [[], []]
    assert model.batches == []


def test_scene_has_its_words_picture_and_speech_model() -> None:
    words = spoken((0.1, 0.3, " Hello"), (0.4, 0.8, " there."), (1.2, 1.4, " Again."))
    ((first, second),) = embedder(ColourModel()).describe([video("red", "blue", transcript=words)])
    assert (first.transcript_segment, first.visual_summary) == ("Hello there.", "red")
    assert first.combined_text == "Hello there.\nred"
    assert second.combined_text == "Again.\nblue"
    assert first.vision_model == "colours@1"
    assert (first.embedding.shape, first.embedding.dtype) == ((EMBEDDING_DIM,), np.float32)
    assert np.linalg.norm(first.embedding) == pytest.approx(1.0)


def test_a_silent_scene_is_described_by_its_picture_alone() -> None:
    ((scene,),) = embedder(ColourModel()).describe([video("green")])
    assert (scene.transcript_segment, scene.combined_text) == ("", "green")


def test_meaning_is_computed_once_for_all_scenes_with_text() -> None:
    text = LengthModel()
    describing = SceneEmbedder(SceneModels(ColourModel(), text), [("red", "green")], 64, 4)  # type: ignore[arg-type]
    undecided = np.full((64, 64, 3), 128, np.uint8)
    grey = ScenesOfVideo([SceneBlock((DetectedScene(0, 0.0, 1.0, 0.5, undecided),))], SILENCE)
    describing._groups = [(("red",), np.zeros((1, EMBEDDING_DIM), np.float32))]
    (first,), (second, third) = describing.describe([video("red"), video("green", "red")])
    assert text.asked == [["red", "red", "red"]]
    assert [scene.meaning[0] for scene in (first, second, third) if scene.meaning is not None] == [3, 3, 3]
    assert {scene.text_model for scene in (first, second, third)} == {"lengths@1"}
    describing._groups = []
    ((silent,),) = describing.describe([grey])
    assert (silent.combined_text, silent.meaning) == ("", None)


def test_group_gives_one_tag_at_most_and_none_without_a_lead() -> None:
    model = ColourModel()
    undecided = tuple(
        f"grey {n}" for n in range(int(1 / CLIP_SCALE.threshold) + 1)
    )  # all alike: each below the threshold
    groups = (("red", "green"), undecided, ("blue", "red"))
    ((scene,),) = embedder(model, *groups).describe([video("red")])
    assert scene.tags == ("red", "red")
    assert scene.visual_summary == "red, red"


def test_sigmoid_model_gives_no_tag_where_none_fits() -> None:
    """Of a grey picture each colour is equally near: one among three for a softmax, unlikely for a sigmoid."""
    alone = ColourModel()
    alone.label_scale = SigmoidScale(scale=30.0, bias=-28.0)  # type: ignore[assignment]
    grey = ScenesOfVideo([SceneBlock((DetectedScene(0, 0.0, 1.0, 0.5, np.full((64, 64, 3), 128, np.uint8)),))], SILENCE)
    ((fitting,), (other,)) = embedder(alone).describe([video("red"), grey])
    assert (fitting.tags, other.tags) == (("red",), ())
    ((chosen,),) = embedder(ColourModel(), ("red", "green", "blue")).describe(
        [ScenesOfVideo([SceneBlock((DetectedScene(0, 0.0, 1.0, 0.5, np.full((64, 64, 3), 128, np.uint8)),))], SILENCE)]
    )
    assert len(chosen.tags) == 1


def test_key_frames_smaller_than_the_models_input_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"HEIMDEX_KEY_FRAME_PX is 63, .* set it to at least 64"):
        embedder(ColourModel(), key_frame_px=63)


@pytest.mark.parametrize(
    ("start_s", "end_s", "text"),
    [
        (0.0, 1.0, "one"),
        (1.0, 2.0, "two"),  # its middle is on the cut: it belongs to the scene that begins there
        (2.0, 3.0, "three"),
        (0.0, 9.0, "one two three"),
        (3.0, 9.0, ""),
        (1.0, 1.0, ""),
    ],
)
def test_a_word_belongs_to_the_scene_that_holds_its_middle(start_s: float, end_s: float, text: str) -> None:
    transcript = spoken((0.0, 1.0, " one"), (0.5, 1.5, " two"), (1.9, 2.9, " three"))
    assert SpokenWords(transcript).within(start_s, end_s) == text


def test_tiled_scenes_share_words_without_loss_or_double() -> None:
    words = [(n * 0.37, n * 0.37 + 0.4, f" w{n}") for n in range(200)]
    transcript = SpokenWords(spoken(*words))
    cuts = [0.0, 0.2, 3.3, 17.0, 17.01, 50.0, 100.0]
    parts = [transcript.within(start, end) for start, end in itertools.pairwise(cuts)]
    assert " ".join(part for part in parts if part).split() == [text.strip() for _, _, text in words]


def test_languages_without_blanks_are_joined_as_spoken() -> None:
    assert SpokenWords(spoken((0.0, 0.2, "今日"), (0.2, 0.4, "は"))).within(0.0, 1.0) == "今日は"


def test_bundled_model_describes_a_picture_by_the_same_code() -> None:
    model = load_vision_model("bundled", None, "cpu", threads=1)
    found = SceneEmbedder(
        SceneModels(model, LengthModel()), [("a red circle", "a blue square")], model.image_size_px, 8
    )
    scene = DetectedScene(0, 0.0, 1.0, 0.5, np.full((96, 96, 3), (255, 0, 0), np.uint8))
    ((described,),) = found.describe([ScenesOfVideo([SceneBlock((scene,))], SILENCE)])
    assert described.embedding.shape == (EMBEDDING_DIM,)
    assert described.vision_model == model.key
    assert len(described.tags) == 1
