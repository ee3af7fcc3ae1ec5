"""Scenes in motion: a coloured shape that floats and sways in front of a place.

Owns layout and movement of a scene, all decided by the scene's seed. Leaves places and shapes to their
painters.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.demo_maker.canvas import Canvas, Colour
from tests.demo_maker.places import paint_place
from tests.demo_maker.shapes import paint_of, paint_shape
from tests.demo_maker.vocabulary import COLOURS, PLACES, SHAPES, Scene

_MAY_TURN = {
    "star": 0.5,
    "cross": 0.15,
    "ring": 0.5,
    "circle": 0.5,
    "square": 0.15,
    "hexagon": 0.12,
    "arrow": 0.3,
}
_LEFTMOST, _RIGHTMOST = 0.17, 0.83


@dataclass(frozen=True)
class _Motion:
    """Where the shape is: home, how far and how fast it floats, its size and turn."""

    home: tuple[float, float]
    float_x: float
    float_y: float
    cycles_hz: float
    phase: float
    radius: float
    turn: float
    paint: Colour


def render(scene: Scene, time_s: float, width: int, height: int) -> npt.NDArray[np.uint8]:
    """The frame (height, width, 3; uint8 RGB) of `scene` at `time_s`; the same for the same arguments."""
    canvas = Canvas(width, height)
    paint_place(canvas, scene.place, scene.seed, time_s)
    motion = _motion_of(scene)
    swing = 2 * np.pi * motion.cycles_hz * time_s + motion.phase
    centre = (
        motion.home[0] + motion.float_x * np.sin(swing),
        motion.home[1] + motion.float_y * np.cos(1.3 * swing),
    )
    turn = motion.turn * (1 + 0.25 * np.sin(0.8 * swing))
    paint_shape(canvas, scene.shape, motion.paint, centre, motion.radius * (1 + 0.03 * np.sin(1.7 * swing)), turn)
    return canvas.pixels


def random_scene(rng: np.random.Generator) -> Scene:
    """Any scene of the vocabulary, each shape, colour and place equally likely."""
    shape, colour, place = (str(rng.choice(list(names))) for names in (SHAPES, COLOURS, PLACES))
    return Scene(shape, colour, place, int(rng.integers(2**31)))


def _motion_of(scene: Scene) -> _Motion:
    rng = np.random.default_rng((scene.seed, 1))
    most = _MAY_TURN.get(scene.shape, 0.12)
    return _Motion(
        home=(rng.uniform(_LEFTMOST, _RIGHTMOST), rng.uniform(0.34, 0.66)),
        float_x=rng.uniform(0.01, 0.04),
        float_y=rng.uniform(0.01, 0.05),
        cycles_hz=rng.uniform(0.1, 0.25),
        phase=rng.uniform(0, 2 * np.pi),
        radius=rng.uniform(0.15, 0.28),
        turn=rng.uniform(-most, most),
        paint=paint_of(rng, scene.colour),
    )
