"""Cuts, key frames and sound of one file as a media worker gets them.

``python -m tests.benchmarks.media_by_heimdex`` answers each line of standard input, a file's name as JSON, by what it
found and what that took; with FILE it prints cuts and key frames of that one as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

from actors.stages.media_reader import MediaReader
from actors.stages.scene_detector import SceneDetector
from cluster.contracts.media import LocalVideo, MediaLimits
from tests.benchmarks.answering import answer

KEY_FRAME_PX = 288
THREADS = 1
"""As many as the plan gives a media worker on two cores."""
LIMITS = MediaLimits(max_duration_s=3600, max_pixels=10**7, max_fps=240, max_streams=8, max_bytes=10**10)


def process(name: str, *, with_sound: bool = True) -> dict[str, Any]:
    """Cuts in seconds, how many key frames there are, how many samples of sound."""
    path = Path(name)
    video = LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)
    reader = MediaReader(LIMITS)
    info = reader.probe(video)
    samples = sum(len(window.samples) for window in reader.read_speech(video, info)) if with_sound else 0
    blocks = SceneDetector(KEY_FRAME_PX, block_size=32, limits=LIMITS, threads=THREADS).detect(video, info)
    scenes = [scene for block in blocks for scene in block.scenes]
    cuts_s = [scene.start_s for scene in scenes[1:]]
    return {"cuts_s": cuts_s, "key_frames": len([scene.key_frame for scene in scenes]), "samples": samples}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(process(sys.argv[1], with_sound=False)))
    else:
        answer(process)
