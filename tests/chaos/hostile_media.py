"""The hand-made hostile files, laid out one after another; everything is made on the spot."""

import os
import shutil
from collections.abc import Generator
from pathlib import Path

from tests.chaos.hostile_containers import CONTAINERS
from tests.chaos.hostile_file import Hostile, HostileFile
from tests.chaos.hostile_mp4 import MP4
from tests.chaos.hostile_pictures import PICTURES
from tests.chaos.hostile_places import PLACES
from tests.chaos.hostile_sound import SOUND

HOSTILE = PLACES | {
    name: Hostile(make, becomes) for name, (make, becomes) in (MP4 | CONTAINERS | PICTURES | SOUND).items()
}
"""By file name."""


def hostile_files(folder: Path) -> Generator[HostileFile, None, None]:
    """Every hand-made file, one at a time: each is gone when the next one is asked for."""
    for name, hostile in HOSTILE.items():
        place = folder / "place"
        place.mkdir(parents=True)
        path = place / name
        hostile.make(path)
        if path.is_file() and not path.is_symlink():
            os.utime(path, (0, 0))  # else what is damaged is taken for a file that is still being written
        meanwhile = hostile.meanwhile
        try:
            run = None if meanwhile is None else (lambda act=meanwhile, on=path: act(on))
            yield HostileFile(name, str(path), hostile.becomes, run)
        finally:
            shutil.rmtree(place)
