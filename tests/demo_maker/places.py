"""The ten places: each painted afresh for every frame from its layout seed and the time, so that it lives.

Owns places and their movement. A painter draws its layout from the generator it is given (seeded alike for
every frame of a scene) and lets only the time move things, gently: a place must never look like a cut.
"""

from collections.abc import Callable

import numpy as np

from tests.demo_maker.canvas import Canvas, Colour, mixed, varied
from tests.demo_maker.scenery import jagged_line, paint_building, paint_clouds, paint_evergreen, rolling_line

Painter = Callable[[Canvas, np.random.Generator, float], None]
_WHITE: Colour = (255, 255, 255)
_TAU = 2 * np.pi


def paint_place(canvas: Canvas, place: str, seed: int, time_s: float) -> None:
    """Paint `place` over the whole canvas as it looks `time_s` after the scene began."""
    _PAINTERS[place](canvas, np.random.default_rng(seed), time_s)


def _sea(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    horizon = rng.uniform(0.3, 0.45)
    evening = rng.random() < 0.3
    high: Colour = varied(rng, (120, 110, 190) if evening else (96, 178, 236))
    low: Colour = varied(rng, (255, 196, 150) if evening else (214, 238, 250))
    canvas.gradient([(0, high), (1, low)], 0.0, horizon)
    paint_clouds(canvas, rng, time_s, horizon * 0.7)
    near, far = varied(rng, (8, 56, 110)), varied(rng, (44, 150, 190))
    canvas.gradient([(0, far), (1, near)], horizon, 1.0)
    for band in range(7):
        depth = (band + 0.4) / 7
        y = horizon + (1 - horizon) * depth**1.3
        swell = 0.006 + 0.022 * depth
        x = np.linspace(0, 1, 81)
        phase = rng.random() * _TAU + time_s * (0.7 + 0.5 * rng.random()) * (1 if band % 2 else -1)
        crest = y - swell * np.sin(_TAU * x * (9 - 6 * depth) + phase)
        canvas.hill(crest, mixed(far, near, depth), opacity=0.5)
        edge = np.stack([x, crest], axis=1)
        canvas.outline(edge, mixed(mixed(far, near, depth), _WHITE, 0.45), 0.005 + 0.005 * depth, closed=False)


def _forest(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    canvas.gradient([(0, varied(rng, (150, 200, 170))), (1, varied(rng, (200, 226, 180)))], 0.0, 0.7)
    floor = varied(rng, (52, 68, 34))
    canvas.gradient([(0, mixed(floor, (90, 120, 50), 0.5)), (1, floor)], 0.7, 1.0)
    for row, (base, size, count) in enumerate(((0.72, 0.5, 13), (0.8, 0.62, 9), (0.95, 0.8, 6))):
        green = varied(rng, ((96, 142, 104), (48, 106, 64), (22, 66, 40))[row], 8)
        for tree in range(count):
            x = (tree + rng.uniform(0.1, 0.9)) / count
            height = size * rng.uniform(0.75, 1.1)
            sway = 0.006 * np.sin(time_s * 1.1 + rng.random() * _TAU)
            paint_evergreen(canvas, x, base + rng.uniform(0, 0.05), height, varied(rng, green, 5), sway)


def _desert(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    canvas.gradient([(0, varied(rng, (110, 176, 222))), (1, varied(rng, (255, 226, 176)))], 0.0, 0.6)
    paint_clouds(canvas, rng, time_s, 0.2, 0.25)
    sand = varied(rng, (228, 182, 108))
    for row in range(4):
        base = 0.48 + 0.15 * row
        line = rolling_line(rng, base, 0.07)
        lit = mixed(sand, (150, 92, 44), 0.10 + 0.13 * row)
        canvas.hill(line, lit)
        canvas.hill(
            line + 0.05 + 0.05 * np.abs(np.sin(np.linspace(0, 5, len(line)))),
            mixed(lit, (120, 70, 40), 0.22),
            opacity=0.6,
        )
    for _ in range(40):
        x, y = rng.random(), rng.uniform(0.55, 1.0)
        canvas.dot((x + 0.05 * time_s * rng.uniform(0.5, 1)) % 1.0, y, 0.004, (255, 236, 196), 0.6)


def _snow(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    canvas.gradient([(0, varied(rng, (156, 176, 206))), (1, varied(rng, (226, 234, 244)))], 0.0, 0.65)
    canvas.hill(rolling_line(rng, 0.55, 0.10), varied(rng, (206, 220, 236), 5))
    for _ in range(int(rng.integers(6, 12))):
        x, base, height = rng.random(), rng.uniform(0.6, 0.7), rng.uniform(0.12, 0.26)
        paint_evergreen(canvas, x, base, height, varied(rng, (150, 176, 186), 6), 0.0)
    canvas.hill(rolling_line(rng, 0.68, 0.06), varied(rng, (234, 241, 250), 4))
    canvas.hill(rolling_line(rng, 0.84, 0.05), varied(rng, (248, 251, 255), 3))
    for _ in range(70):
        x, y, size, speed = rng.random(), rng.random(), rng.uniform(0.004, 0.011), rng.uniform(0.06, 0.13)
        drift = 0.012 * np.sin(time_s * 1.3 + rng.random() * _TAU)
        canvas.dot(x + drift, (y + speed * time_s) % 1.0, size, _WHITE, 0.9)


def _night_sky(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    canvas.gradient(
        [
            (0, varied(rng, (8, 10, 34), 5)),
            (0.7, varied(rng, (26, 30, 84), 7)),
            (1, varied(rng, (70, 54, 110), 8)),
        ]
    )
    tilt, middle = rng.uniform(-0.4, 0.4), rng.uniform(0.2, 0.5)
    for _ in range(14):
        x = rng.random()
        canvas.ellipse(
            x,
            middle + tilt * (x - 0.5) + rng.normal(0, 0.03),
            rng.uniform(0.1, 0.25),
            0.05,
            (120, 120, 190),
            0.07,
        )
    for _ in range(110):
        x, y, size = rng.random(), rng.uniform(0, 0.88), rng.uniform(0.002, 0.0065)
        shine = 0.65 + 0.35 * np.sin(time_s * rng.uniform(0.8, 2.5) + rng.random() * _TAU)
        canvas.dot(x, y, size, mixed((40, 44, 90), varied(rng, (250, 248, 230), 8), shine))
    canvas.hill(rolling_line(rng, 0.9, 0.05), (10, 12, 30))


def _city(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    canvas.gradient([(0, varied(rng, (88, 110, 170))), (1, varied(rng, (250, 190, 160)))], 0.0, 0.85)
    canvas.gradient([(0, (70, 70, 84)), (1, (46, 46, 58))], 0.85, 1.0)
    for row, (lowest, tallest, count) in enumerate(((0.45, 0.75, 14), (0.25, 0.6, 9))):
        wall = varied(rng, ((140, 136, 168), (74, 76, 104))[row], 8)
        for building in range(count):
            paint_building(canvas, rng, building / count, 1.05 / count, rng.uniform(lowest, tallest), (wall, time_s))
    for car in range(5):
        x = (rng.random() + time_s * 0.07 * (1 if car % 2 else -1)) % 1.1 - 0.05
        canvas.ellipse(x, 0.9 + 0.02 * car, 0.02, 0.008, (255, 240, 190) if car % 2 else (230, 60, 50), 0.9)


def _meadow(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    canvas.gradient([(0, varied(rng, (92, 168, 236))), (1, varied(rng, (210, 236, 250)))], 0.0, 0.6)
    paint_clouds(canvas, rng, time_s, 0.3, 0.7)
    canvas.hill(rolling_line(rng, 0.52, 0.06), varied(rng, (126, 188, 96), 8))
    canvas.hill(rolling_line(rng, 0.64, 0.05), varied(rng, (104, 182, 70), 8))
    canvas.hill(rolling_line(rng, 0.8, 0.04), varied(rng, (78, 160, 54), 8))
    blooms: tuple[Colour, ...] = (
        (250, 240, 250),
        (252, 214, 60),
        (240, 120, 160),
        (170, 120, 220),
        (236, 80, 70),
    )
    for _ in range(55):
        x, y = rng.random(), rng.uniform(0.62, 1.0)
        size = 0.006 + 0.016 * (y - 0.6)
        sway = 0.005 * np.sin(time_s * 1.4 + rng.random() * _TAU)
        stem = np.array([(x, y + 4 * size), (x + sway, y)])
        canvas.outline(stem, (50, 120, 40), 0.004, closed=False)
        canvas.dot(x + sway, y, size, blooms[int(rng.integers(len(blooms)))])


def _road(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    horizon, vanish = rng.uniform(0.34, 0.44), rng.uniform(0.4, 0.6)
    canvas.gradient([(0, varied(rng, (130, 176, 214))), (1, varied(rng, (238, 236, 222)))], 0.0, horizon)
    paint_clouds(canvas, rng, time_s, horizon * 0.7, 0.5)
    verge = varied(rng, (166, 160, 92))
    canvas.gradient([(0, mixed(verge, _WHITE, 0.15)), (1, verge)], horizon, 1.0)
    canvas.polygon(
        np.array([(vanish - 0.02, horizon), (vanish + 0.02, horizon), (1.12, 1.0), (-0.12, 1.0)]),
        varied(rng, (88, 88, 94), 6),
    )
    for side in (-1, 1):
        edge = np.array([(vanish + side * 0.017, horizon), (0.5 + side * 0.57, 1.0), (0.5 + side * 0.54, 1.0)])
        canvas.polygon(edge, (240, 240, 236))
    for dash in range(7):
        near = ((dash + time_s * 0.8) % 7) / 7
        y1, y2 = (horizon + (1 - horizon) * part**2.2 for part in (near, min(near + 0.075, 1.0)))
        corners = []
        for y, side in ((y1, -1), (y1, 1), (y2, 1), (y2, -1)):
            share = (y - horizon) / (1 - horizon)
            corners.append((vanish + (0.5 - vanish) * share + side * 0.016 * share, y))
        canvas.polygon(np.array(corners), (250, 240, 190))


def _mountains(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    canvas.gradient([(0, varied(rng, (120, 160, 214))), (1, varied(rng, (246, 222, 206)))], 0.0, 0.8)
    paint_clouds(canvas, rng, time_s, 0.3, 0.4)
    rock = varied(rng, (98, 94, 118))
    for row in range(3):
        base, count = 0.66 + 0.16 * row, 3 + row
        line = jagged_line(rng, base, 0.5 - 0.13 * row, count)
        tone = mixed(mixed(rock, (200, 206, 226), 0.5), mixed(rock, (40, 46, 62), 0.35), row / 2)
        canvas.hill(line, tone)
        shade = np.minimum(line + 0.10 + 0.08 * rng.random(len(line)), 1.0)
        canvas.hill(shade, mixed(tone, (50, 54, 76), 0.3), opacity=0.7)
    canvas.gradient([(0, (70, 84, 78)), (1, (48, 60, 56))], 0.95, 1.0)


def _volcano(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    canvas.gradient(
        [
            (0, varied(rng, (40, 20, 34), 7)),
            (0.7, varied(rng, (150, 50, 36), 9)),
            (1, varied(rng, (220, 110, 50), 9)),
        ],
        0.0,
        0.93,
    )
    x, top, half = rng.uniform(0.35, 0.65), rng.uniform(0.28, 0.38), rng.uniform(0.3, 0.4)
    for puff in range(9):
        age = (puff / 9 + time_s * 0.04) % 1.0
        canvas.ellipse(
            x + rng.normal(0, 0.05) + 0.1 * age,
            top - 0.4 * age,
            0.05 + 0.16 * age,
            0.04 + 0.08 * age,
            (90, 70, 74),
            0.35 * (1 - age),
        )
    cone = np.array(
        [
            (x - 0.06, top),
            (x + 0.06, top),
            (x + half * 0.5, 0.62),
            (x + half + 0.1, 0.9),
            (x - half - 0.1, 0.9),
            (x - half * 0.5, 0.62),
        ]
    )
    canvas.polygon(cone, varied(rng, (52, 38, 44), 5))
    glow = 0.5 + 0.2 * np.sin(time_s * 1.5)
    canvas.ellipse(x, top, 0.1, 0.02, mixed((255, 110, 20), (255, 220, 90), glow))
    for _ in range(3):
        foot, wide = x + rng.uniform(-half, half) * 0.8, rng.uniform(0.012, 0.03)
        middle = (x + foot) / 2 + rng.normal(0, 0.03)
        stream = np.array(
            [
                (x - 0.01, top),
                (x + 0.01, top),
                (middle + wide * 0.7, 0.6),
                (foot + wide, 0.92),
                (foot - wide, 0.92),
                (middle - wide * 0.7, 0.6),
            ]
        )
        canvas.polygon(stream, mixed((240, 80, 16), (255, 180, 50), glow))
    canvas.hill(rolling_line(rng, 0.9, 0.03), (34, 24, 28))
    for _ in range(26):
        spread, speed, start = rng.normal(0, 0.14), rng.uniform(0.1, 0.22), rng.random()
        age = (start + speed * time_s) % 1.0
        canvas.dot(x + spread * age, top - 0.5 * age + 0.9 * age**2, 0.006, (255, 180, 70), 1 - age)


_PAINTERS: dict[str, Painter] = {
    "sea": _sea,
    "forest": _forest,
    "desert": _desert,
    "snow": _snow,
    "night sky": _night_sky,
    "city": _city,
    "meadow": _meadow,
    "road": _road,
    "mountains": _mountains,
    "volcano": _volcano,
}
