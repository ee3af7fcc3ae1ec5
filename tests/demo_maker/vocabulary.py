"""What the demo's pictures can show, and the words for it: ten shapes, ten colours, ten places.

Owns the `Scene` record, its captions and the zero-shot labels. Leaves the painting to `places` and `shapes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHAPES: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "round shape"),
    "square": ("square", "box"),
    "triangle": ("triangle", "triangular shape"),
    "star": ("star", "five pointed star"),
    "heart": ("heart", "love heart"),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop", "donut"),
    "hexagon": ("hexagon", "six sided shape"),
    "crescent": ("crescent", "crescent moon"),
    "arrow": ("arrow", "pointer"),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "yellow": ("yellow", "golden"),
    "orange": ("orange", "tangerine"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
    "white": ("white", "ivory"),
    "black": ("black", "jet black"),
    "brown": ("brown", "chocolate"),
}
PLACES: dict[str, tuple[str, ...]] = {
    "sea": ("over the sea", "at sea", "over the ocean", "above the waves", "over the water"),
    "forest": ("in the forest", "in the woods", "among the trees", "among evergreens"),
    "desert": ("in the desert", "above the dunes", "over the sand"),
    "snow": ("in the snow", "in a snowy field", "in a winter landscape", "in winter"),
    "night sky": ("in the night sky", "at night", "under a starry sky", "in the dark sky"),
    "city": ("in the city", "above the skyline", "in front of buildings", "in town"),
    "meadow": ("in a meadow", "in the grass", "above the flowers", "in a field of flowers"),
    "road": ("on the road", "on a highway", "in the street"),
    "mountains": ("in the mountains", "in front of the peaks", "by a mountain range"),
    "volcano": ("by the volcano", "over the lava", "near an eruption", "over a volcano"),
}
PLACE_LABELS: dict[str, tuple[str, ...]] = {
    "sea": ("the sea", "the ocean", "waves", "water"),
    "forest": ("a forest", "the woods", "trees", "evergreens"),
    "desert": ("the desert", "dunes", "sand"),
    "snow": ("snow", "a snowy field", "a winter landscape", "winter"),
    "night sky": ("the night sky", "night", "a starry sky", "the dark sky"),
    "city": ("a city", "a skyline", "buildings", "a town"),
    "meadow": ("a meadow", "grass", "flowers", "a field of flowers"),
    "road": ("a road", "a highway", "a street"),
    "mountains": ("mountains", "peaks", "a mountain range"),
    "volcano": ("a volcano", "lava", "an eruption"),
}
_FRAMES = (
    "{}",
    "{}",
    "{}",
    "a photo of {}",
    "a picture of {}",
    "there is {}",
    "a scene with {}",
    "find {}",
    "show me {}",
)
_NOUNS = ("shape", "thing", "object")


@dataclass(frozen=True)
class Scene:
    """One thing to show: a coloured shape in front of a place, in one particular layout."""

    shape: str
    colour: str
    place: str
    seed: int

    @property
    def caption(self) -> str:
        """The plain sentence for this scene, as in "a red star over the sea"."""
        return f"{with_article(f'{self.colour} {self.shape}')} {PLACES[self.place][0]}"


def with_article(noun: str) -> str:
    """Put "a" or "an" before `noun`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def caption_for(
    rng: np.random.Generator, shape: str | None = None, colour: str | None = None, place: str | None = None
) -> str:
    """One of the many ways to say what is given: synonyms, with and without article, plain or in a sentence.

    Raises ValueError when nothing is given.
    """
    if shape is None and colour is None and place is None:
        raise ValueError("a caption needs a shape, a colour or a place")
    thing = _thing(rng, shape, colour)
    if place is None:
        return _pick(rng, _FRAMES).format(thing)
    if not thing:
        return _pick(rng, _FRAMES).format(_bare(rng, _pick(rng, PLACE_LABELS[place])))
    if rng.random() < 0.15:
        return f"{thing} {_pick(rng, ('and', 'with', 'in front of'))} {_pick(rng, PLACE_LABELS[place])}"
    return _pick(rng, _FRAMES).format(f"{thing} {_pick(rng, PLACES[place])}")


def label_groups() -> list[tuple[str, ...]]:
    """The zero-shot labels that the bundled model knows: all shapes, all colours, all places."""
    places = tuple(names[0] for names in PLACE_LABELS.values())
    return [tuple(with_article(shape) for shape in SHAPES), tuple(COLOURS), places]


def _thing(rng: np.random.Generator, shape: str | None, colour: str | None) -> str:
    if shape is None and colour is None:
        return ""
    if shape is None:
        assert colour is not None
        word = _word(rng, COLOURS[colour])
        return _pick(
            rng,
            (word, f"something {word}", with_article(f"{word} {_pick(rng, _NOUNS)}"), f"the colour {word}"),
        )
    noun = _word(rng, SHAPES[shape])
    if colour is not None:
        noun = f"{_word(rng, COLOURS[colour])} {noun}"
    return with_article(noun) if rng.random() < 0.7 else noun


def _word(rng: np.random.Generator, names: Sequence[str]) -> str:
    """The plain name half of the time, else one of its synonyms."""
    return names[0] if rng.random() < 0.5 else _pick(rng, names)


def _bare(rng: np.random.Generator, label: str) -> str:
    """Now and then without the article, as people type into a search box."""
    return label.split(" ", 1)[1] if label.startswith(("a ", "an ", "the ")) and rng.random() < 0.4 else label


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
