"""Cuts, key frames and sound of one file as a media worker gets them, in a process of its own.

``python -m tests.benchmarks.media_by_heimdex FILE [--without-sound]`` prints what it found as JSON.
"""

import json
import sys
from pathlib import Path

from actors.stages.media_reader import MediaReader
from actors.stages.scene_detector import SceneDetector
from cluster.contracts.media import LocalVideo, MediaLimits
from cluster.storage import FetchLimits

KEY_FRAME_PX = 288
THREADS = 1
"""What the plan gives a media worker on two cores."""


def main() -> None:
    """Print cuts in seconds, how many key frames there are, how many samples of sound."""
    path = Path(sys.argv[1])
    video = LocalVideo(path=path, size_bytes=path.stat().st_size, temporary=False)
    limits = MediaLimits(max_duration_s=3600, max_pixels=10**7, max_fps=240, max_streams=8, max_bytes=10**10)
    reader = MediaReader(limits, FetchLimits(10**10, 60.0), path.parent)
    info = reader.probe(video)
    heard = [] if "--without-sound" in sys.argv else reader.read_speech(video, info)
    samples = sum(len(window.samples) for window in heard)
    blocks = SceneDetector(KEY_FRAME_PX, block_size=32, limits=limits, threads=THREADS).detect(video, info)
    scenes = [scene for block in blocks for scene in block.scenes]
    cuts_s = [scene.start_s for scene in scenes[1:]]
    print(json.dumps({"cuts_s": cuts_s, "key_frames": len([scene.key_frame for scene in scenes]), "samples": samples}))


if __name__ == "__main__":
    main()
