"""The ten shapes: their outlines and how one is painted, with a border that sets it off from any place.

Owns what a shape looks like. Leaves where it is and how it moves to `scenes`.
"""

import numpy as np

from tests.demo_maker.canvas import Canvas, Colour, Points, mixed, varied

PAINTS: dict[str, Colour] = {
    "red": (214, 30, 38),
    "green": (34, 160, 62),
    "blue": (36, 84, 224),
    "yellow": (250, 215, 30),
    "orange": (248, 128, 22),
    "purple": (124, 46, 178),
    "pink": (250, 130, 186),
    "white": (246, 246, 246),
    "black": (24, 24, 28),
    "brown": (112, 68, 36),
}
_WHITE: Colour = (255, 255, 255)
_DARK: Colour = (12, 12, 20)


def paint_shape(
    canvas: Canvas, shape: str, colour: Colour, centre: tuple[float, float], radius: float, turn: float
) -> None:
    """Paint one shape with its shadow, border and light; `radius` in heights, `turn` in radians."""
    outline = shape_outline(shape)
    shadow = _placed(canvas, outline, (centre[0] + 0.02 / canvas.aspect, centre[1] + 0.03), radius * 1.04, turn)
    canvas.polygon(shadow, _DARK, 0.28)
    body = _placed(canvas, outline, centre, radius, turn)
    border = mixed(colour, _DARK, 0.45) if max(colour) > 90 else (200.0, 200.0, 205.0)
    canvas.outline(body, border, 0.022)
    canvas.polygon(body, colour)
    light = _placed(canvas, outline * 0.72 + (-0.08, -0.10), centre, radius, turn)
    if shape not in ("ring", "crescent"):
        canvas.polygon(light, mixed(colour, _WHITE, 0.16), 0.6)


def paint_of(rng: np.random.Generator, colour: str) -> Colour:
    """A paint that is recognisably of this colour."""
    return varied(rng, PAINTS[colour], 7.0)


def shape_outline(shape: str) -> Points:
    """The outline (n, 2) of a shape about the origin, within the unit circle; y points down."""
    return _OUTLINES[shape]


def _placed(canvas: Canvas, outline: Points, centre: tuple[float, float], radius: float, turn: float) -> Points:
    cos, sin = np.cos(turn), np.sin(turn)
    turned = outline @ np.array([[cos, sin], [-sin, cos]]) * radius
    return np.asarray(turned * (1 / canvas.aspect, 1.0) + centre)


def _regular(corners: int, start: float = -np.pi / 2) -> Points:
    angles = start + 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Points:
    points = _regular(10)
    points[1::2] *= 0.42
    return points


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], axis=1) / 16.5


def _cross() -> Points:
    a, b = 0.32, 0.95
    return np.array(
        [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    )


def _ring() -> Points:
    """Outer circle, then the inner one backwards; the two edges that join them coincide."""
    outer = _regular(73)
    outer = np.concatenate([outer, outer[:1]])
    return np.concatenate([outer, outer[::-1] * 0.55])


def _crescent() -> Points:
    t = np.linspace(0.28 * np.pi, 1.72 * np.pi, 60)
    outer = np.stack([np.cos(t), np.sin(t)], axis=1)
    tip = outer[0]
    centre_x = 0.62
    radius = float(np.hypot(tip[0] - centre_x, tip[1]))
    angle = float(np.arctan2(tip[1], tip[0] - centre_x))
    back = np.linspace(2 * np.pi - angle, angle, 50)
    inner = np.stack([centre_x + radius * np.cos(back), radius * np.sin(back)], axis=1)
    return np.asarray(np.concatenate([outer, inner]) + np.array([0.15, 0.0]))


def _arrow() -> Points:
    return np.array([(1.0, 0.0), (0.2, -0.75), (0.2, -0.3), (-0.95, -0.3), (-0.95, 0.3), (0.2, 0.3), (0.2, 0.75)])


_OUTLINES: dict[str, Points] = {
    "circle": _regular(72) * 0.9,
    "square": _regular(4, -np.pi / 4) * 1.1,
    "triangle": _regular(3) * 1.08 + (0.0, 0.16),
    "star": _star() * 1.1,
    "heart": _heart(),
    "cross": _cross(),
    "ring": _ring(),
    "hexagon": _regular(6, 0.0) * 0.98,
    "crescent": _crescent(),
    "arrow": _arrow(),
}
