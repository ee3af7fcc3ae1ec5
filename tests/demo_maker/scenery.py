"""What places have in common: skylines, clouds, trees and houses.

Owns these single things. Leaves composing them into a place to `places`.
"""

import numpy as np

from tests.demo_maker.canvas import Canvas, Colour, Points, mixed, varied

_TAU = 2 * np.pi
_WHITE: Colour = (255, 255, 255)


def rolling_line(rng: np.random.Generator, base: float, height: float, shift: float = 0.0, corners: int = 49) -> Points:
    """A skyline of three mixed sine waves around `base`, up to about `height` high."""
    x = np.linspace(0, 1, corners)
    line = np.zeros_like(x)
    for octave in range(3):
        cycles = rng.uniform(0.7, 1.6) * (octave + 1)
        line += np.sin(_TAU * (cycles * x + rng.random()) + shift * (octave + 1)) / (octave + 1.2)
    return base - height * line / 1.8


def jagged_line(rng: np.random.Generator, base: float, height: float, count: int) -> Points:
    """A jagged skyline with `count` summits, roughened once."""
    line = np.empty(2 * count + 1)
    line[0::2] = rng.uniform(0.0, 0.35, count + 1)
    line[1::2] = rng.uniform(0.6, 1.0, count)
    fine = np.interp(np.linspace(0, 1, 8 * count + 1), np.linspace(0, 1, len(line)), line)
    fine[1:-1] += rng.normal(0, 0.05, len(fine) - 2)
    return base - height * fine


def paint_clouds(canvas: Canvas, rng: np.random.Generator, time_s: float, lowest: float, opacity: float = 0.5) -> None:
    for _ in range(int(rng.integers(2, 5))):
        x, y, size = rng.uniform(0, 1.1), rng.uniform(0.05, lowest), rng.uniform(0.05, 0.1)
        x = (x + 0.006 * time_s) % 1.2 - 0.1
        for puff in range(4):
            across = size * rng.uniform(1.2, 2.0)
            canvas.ellipse(
                x + (puff - 1.5) * size * 0.55,
                y + rng.normal(0, size * 0.12),
                across,
                size * 0.45,
                _WHITE,
                opacity,
            )


def paint_evergreen(canvas: Canvas, x: float, base: float, height: float, green: Colour, sway: float) -> None:
    trunk = np.array([(-0.02, 0), (0.02, 0), (0.02, -0.25), (-0.02, -0.25)]) * height
    canvas.polygon(trunk / (canvas.aspect, 1) + (x, base), (70, 48, 30))
    for tier in range(4):
        low, top = 0.15 + 0.19 * tier, 0.15 + 0.19 * tier + 0.34
        half = 0.22 - 0.045 * tier
        fir = np.array([(-half, -low), (half, -low), (0, -top)]) * height
        fir[:, 0] += sway * -fir[:, 1] / max(height, 1e-6)
        canvas.polygon(fir / (canvas.aspect, 1) + (x, base), mixed(green, (0, 0, 0), 0.06 * (3 - tier)))


def paint_building(
    canvas: Canvas,
    rng: np.random.Generator,
    left: float,
    width: float,
    height: float,
    look: tuple[Colour, float],
) -> None:
    wall, time_s = look
    top, right = 0.87 - height, left + width * rng.uniform(0.75, 1.0)
    canvas.polygon(np.array([(left, top), (right, top), (right, 0.87), (left, 0.87)]), varied(rng, wall, 7))
    columns, step = 4, (right - left) / 4.6
    lit = rng.random((int(height / 0.055), columns)) < 0.5
    flicker = rng.random() * 40
    for row, column in zip(*np.nonzero(lit), strict=True):
        x, y = left + (column + 0.6) * step, top + 0.03 + row * 0.055
        on = 0.9 if (row * 7 + column * 3 + int(time_s * 0.5 + flicker)) % 23 else 0.3
        canvas.polygon(
            np.array([(x, y), (x + step * 0.55, y), (x + step * 0.55, y + 0.028), (x, y + 0.028)]),
            (255, 226, 150),
            on,
        )
