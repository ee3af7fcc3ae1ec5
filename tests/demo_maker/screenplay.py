"""What the demo's clips show and say: eight short films, thirty-four scenes, each with its own sentence.

Owns the plan that `make_clips` carries out. No two scenes share shape, colour and place, so each visual
query has one right answer; no spoken query's words are said together in a second scene.
"""

from dataclasses import dataclass

from tests.demo_maker.vocabulary import Scene


@dataclass(frozen=True)
class Shot:
    """One scene of a clip: what is seen, what is said, and what people may ask for it.

    `spoken` is a phrase said here alone; `reworded`, where given, a second visual query in other words.
    """

    picture: tuple[str, str, str]
    words: str
    spoken: str
    reworded: str | None = None


@dataclass(frozen=True)
class Clip:
    """One film: its file name (the suffix says the container), frame rate, first layout seed and shots.

    `dissolve_after` is the number of the shot that fades into the next one; None means hard cuts only.
    `variable_frame_rate` leaves out frames here and there, as screen recorders and telephones do.
    """

    file: str
    fps: int
    seed: int
    shots: tuple[Shot, ...]
    dissolve_after: int | None = None
    variable_frame_rate: bool = False

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The shots' pictures as scenes, each with a layout of its own."""
        return tuple(
            Scene(colour=c, shape=s, place=p, seed=self.seed + i)
            for i, (c, s, p) in enumerate(shot.picture for shot in self.shots)
        )


CLIPS: tuple[Clip, ...] = (
    Clip(
        "tides.mp4",
        24,
        1100,
        (
            Shot(
                ("red", "circle", "sea"),
                "Twice every day the tide comes in and covers the beach with water.",
                "covers the beach",
                "a crimson disc at sea",
            ),
            Shot(
                ("white", "star", "mountains"),
                "In summer the snow melts, and the water runs down into the valley.",
                "runs down into the valley",
            ),
            Shot(
                ("yellow", "heart", "meadow"),
                "Every spring the farmers open the gate and let the cows into the grass.",
                "farmers open the gate",
                "a golden heart in the grass",
            ),
            Shot(
                ("black", "arrow", "city"),
                "At the end of the day, thousands of people take the train home from work.",
                "take the train home",
            ),
        ),
    ),
    Clip(
        "woodland.mp4",
        25,
        1200,
        (
            Shot(
                ("orange", "square", "forest"),
                "The old trees stand close together, and very little light reaches the ground.",
                "very little light",
            ),
            Shot(
                ("blue", "crescent", "snow"),
                "In January the lake is frozen, and the children learn to skate on the ice.",
                "skate on the ice",
            ),
            Shot(
                ("pink", "hexagon", "road"),
                "The yellow bus stops at the bridge every morning to wait for the students.",
                "stops at the bridge",
            ),
            Shot(
                ("purple", "ring", "sea"),
                "A small boat leaves the harbor before sunrise to look for fish.",
                "leaves the harbor before sunrise",
                "a violet hoop over the ocean",
            ),
        ),
    ),
    Clip(
        "caravan.webm",
        25,
        1300,
        (
            Shot(
                ("green", "triangle", "desert"),
                "The camel can travel for several days in the heat without drinking.",
                "camel can travel",
                "an emerald triangle above the dunes",
            ),
            Shot(
                ("yellow", "cross", "night sky"),
                "Many years ago, sailors looked at the stars to find their way home.",
                "sailors looked at the stars",
            ),
            Shot(
                ("red", "hexagon", "volcano"),
                "Far below the ground, the rock is so hot that it becomes liquid.",
                "becomes liquid",
            ),
            Shot(
                ("brown", "circle", "forest"),
                "The owl sleeps in a hollow tree until the evening comes.",
                "owl sleeps",
            ),
        ),
    ),
    Clip(
        "winter.mp4",
        30,
        1400,
        (
            Shot(
                ("red", "arrow", "snow"),
                "After the storm, the whole village was covered with fresh snow.",
                "after the storm",
                "a scarlet arrow in winter",
            ),
            Shot(
                ("green", "ring", "city"),
                "The museum in the center of town is open until late in the evening.",
                "museum in the center",
            ),
            Shot(
                ("blue", "heart", "desert"),
                "It almost never rains here, but the plants can live on very little water.",
                "almost never rains",
            ),
            Shot(
                ("orange", "star", "sea"),
                "The lighthouse turns on its lamp as soon as the fog appears.",
                "fog appears",
            ),
            Shot(
                ("white", "square", "volcano"),
                "Scientists measure the smoke and wait for the next eruption.",
                "scientists measure the smoke",
            ),
        ),
    ),
    Clip(
        "starlight.mov",
        24,
        1500,
        (
            Shot(
                ("pink", "circle", "night sky"),
                "With a good telescope, you can see mountains on the moon.",
                "good telescope",
                "a rose disc under a starry sky",
            ),
            Shot(
                ("black", "cross", "meadow"),
                "The gardener waters the roses and picks a basket of tomatoes.",
                "basket of tomatoes",
            ),
            Shot(
                ("purple", "triangle", "snow"),
                "The dogs pull a heavy sled across the frozen land.",
                "pull a heavy sled",
            ),
            Shot(
                ("green", "star", "road"),
                "The driver stops for gas and buys a cup of coffee.",
                "cup of coffee",
            ),
        ),
    ),
    Clip(
        "skyline.mp4",
        30,
        1600,
        (
            Shot(
                ("yellow", "hexagon", "city"),
                "From the top of the tower you can see the whole city.",
                "top of the tower",
            ),
            Shot(
                ("brown", "arrow", "mountains"),
                "The climbers rest in a wooden cabin before they reach the summit.",
                "wooden cabin",
                "a chocolate arrow in front of the peaks",
            ),
            Shot(
                ("white", "crescent", "forest"),
                "A brown bear walks slowly through the woods and looks for berries.",
                "looks for berries",
            ),
            Shot(
                ("blue", "square", "meadow"),
                "On Sunday the family had a picnic beside the river.",
                "picnic beside the river",
            ),
        ),
        variable_frame_rate=True,
    ),
    Clip(
        "highway.mp4",
        25,
        1700,
        (
            Shot(
                ("orange", "ring", "road"),
                "The highway is straight and empty, and the next town is far away.",
                "straight and empty",
            ),
            Shot(
                ("purple", "heart", "mountains"),
                "An eagle builds its nest on the side of the cliff.",
                "eagle builds its nest",
                "a violet love heart in the mountains",
            ),
            Shot(
                ("red", "triangle", "night sky"),
                "Soft music is playing on the old radio in the middle of the night.",
                "music is playing",
            ),
            Shot(
                ("black", "star", "desert"),
                "The travelers put up their tents and made a fire for dinner.",
                "put up their tents",
            ),
            Shot(
                ("pink", "cross", "sea"),
                "Two dolphins swim beside the ship and jump out of the water.",
                "two dolphins",
            ),
        ),
        dissolve_after=1,
    ),
    Clip(
        "ember.mp4",
        25,
        1800,
        (
            Shot(
                ("blue", "arrow", "volcano"),
                "Ash fell on the houses, and the people had to leave the island.",
                "leave the island",
            ),
            Shot(
                ("green", "crescent", "meadow"),
                "The horse is waiting near the fence until it is time to eat.",
                "waiting near the fence",
            ),
            Shot(
                ("white", "circle", "road"),
                "A tall man stands in the middle of the street and directs the traffic.",
                "directs the traffic",
                "an ivory disc on a highway",
            ),
            Shot(
                ("brown", "heart", "snow"),
                "Grandmother makes hot chocolate and tells a story by the fire.",
                "tells a story",
            ),
        ),
    ),
)
