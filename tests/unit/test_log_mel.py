"""Whisper's features by torch are those of faster-whisper's own extractor."""

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from cluster.models.log_mel import LogMel
from tests.support.spoken_clips import narration

WINDOW = 480_000


@pytest.mark.parametrize("mels", [80, 128])
def test_the_features_are_the_librarys(mels: int) -> None:
    extractor = FeatureExtractor(feature_size=mels)
    samples = narration().astype(np.float32) / 32768.0
    quiet = np.concatenate([samples[WINDOW : WINDOW + 100_000] * 0.01, np.zeros(WINDOW - 100_000, np.float32)])
    windows = [samples[:WINDOW], quiet, np.zeros(WINDOW, np.float32)]
    made = LogMel(extractor, "cpu")(windows).numpy()
    for window, features in zip(windows, made, strict=True):
        own = extractor(window, padding=0)[:, :3000]
        assert features.shape == own.shape
        assert np.abs(features - own).max() < 2e-3
