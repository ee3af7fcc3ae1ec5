"""Recognition by faster-whisper itself, file by file with the bundled model: what ours is compared with.

In the same run, since processors add up the model's 8-bit numbers in different ways: of the words of the real voices,
0.1231 are wrong on an Intel Xeon and 0.1265 on an AMD EPYC (2026-11-28 and 2026-11-30).
"""

from collections.abc import Sequence

import numpy as np
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from cluster.models.speech import model_directory


def recognised_file_by_file(sounds: Sequence[NDArray[np.int16]]) -> list[str]:
    """The text of each sound: English, beams of 5, voice detection on, not conditioned on the text before."""
    model = WhisperModel(str(model_directory("bundled")), device="cpu", compute_type="int8", cpu_threads=2)
    return [
        "".join(
            segment.text
            for segment in model.transcribe(
                samples.astype(np.float32) / 32768,
                language="en",
                beam_size=5,
                vad_filter=True,
                condition_on_previous_text=False,
            )[0]
        )
        for samples in sounds
    ]
