"""Hostile files and their allowed outcomes: the words that the lists of such files are written in.

The lists are in ``hostile_places``, ``hostile_mp4``, ``hostile_containers``, ``hostile_pictures`` and
``hostile_sound``; ``hostile_media`` lays their files out.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.contracts.errors import InvalidVideo
from tests.chaos.watched_worker import Ending

Make = Callable[[Path], object]
"""Writes a file to a path."""


@dataclass(frozen=True)
class Becomes:
    """The required outcome of a file: READY where ``ready``, else refused with a sentence that matches ``refusal``."""

    ready: bool
    refusal: str | None


READY = Becomes(True, None)


def refused(sentence: str) -> Becomes:
    """InvalidVideo, with a sentence that matches in full."""
    return Becomes(False, sentence)


def either(sentence: str) -> Becomes:
    """READY or InvalidVideo, as this version of FFmpeg may have it: the file can be read with some good will."""
    return Becomes(True, sentence)


@dataclass(frozen=True)
class Hostile:
    """A file: how it is made at a path, what must become of it, and what happens while it is read."""

    make: Callable[[Path], object]
    becomes: Becomes
    meanwhile: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class HostileFile:
    """A file that is ready at ``uri``."""

    name: str
    uri: str
    becomes: Becomes
    meanwhile: Callable[[], None] | None = None

    def faults(self, ending: Ending) -> Iterator[str]:
        """Differences of ``ending`` from what must become of the file, where it was read to an end."""
        if ending.outcome == "ready" and not self.becomes.ready:
            yield "must be refused, became ready"
        if ending.outcome == InvalidVideo.__name__ and not re.fullmatch(self.becomes.refusal or "(?!)", ending.message):
            yield f"must become {self.becomes}, was refused: {ending.message}"


NO_MEDIA = "not a media file, or its beginning is damaged"
NO_INDEX = r"the file is cut off or damaged: its index \(the moov atom\) is missing or damaged"
NO_STREAMS = "the file has neither pictures nor sound"
NO_PICTURES = "the file has sound but no pictures"
UNREADABLE = r"(not a media file.*|the file is cut off or damaged.*|the file cannot be read: .+)"
UNDECODABLE = r"(no picture can be decoded|the file holds no pictures although its header announces some).*"
CUT_OFF = r"only \d.* could be (read|decoded).*"
TOO_LONG = (
    r"(the video lasts [\d.e+]+ s, the limit is 43200 s"
    r"|the (pictures last|sound lasts) longer than the limit of 43200 s)"
)
TOO_FAST = r"the video has ([\d.e+]+ pictures per second, the limit is 240|more than 240 pictures per second)"
TOO_LARGE = r"the pictures have \d+ x \d+ pixels, the limit is 33,177,600 pixels"
TOO_MANY_STREAMS = r"the file has [\d,]+ streams, the limit is 32"
TOO_MUCH_MEMORY = (
    r".*(takes more than [\d,]+ MiB of memory: it is damaged or asks too much"
    r"|announces more than can be held in memory)"
)
ANY_DAMAGE = "|".join([UNREADABLE, NO_STREAMS, UNDECODABLE, CUT_OFF, TOO_LONG, TOO_FAST, TOO_MUCH_MEMORY])
"""Refusals allowed for a file of which it is unknown what is left."""
