"""Whisper's features: log-mel spectrograms of whole windows, on a GPU where the model is on one.

The same figures as faster-whisper's own extractor, which works on one core: a GPU would wait for it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

Samples = NDArray[np.float32]


class LogMel:
    """``extractor``'s features, computed on ``device`` (a torch device)."""

    def __init__(self, extractor: FeatureExtractor, device: str) -> None:
        self._device = device
        self._hop_length = extractor.hop_length
        self._n_fft = extractor.n_fft
        self._window = torch.hann_window(extractor.n_fft, device=device)
        self._filters = torch.from_numpy(np.asarray(extractor.mel_filters, np.float32)).to(device)

    def __call__(self, windows: Sequence[Samples]) -> torch.Tensor:
        """float32[window, mel, frame] of windows that are equally long: a frame for every hop."""
        samples = torch.from_numpy(np.stack(windows)).to(self._device)
        spectrum = torch.stft(samples, self._n_fft, self._hop_length, window=self._window, return_complex=True)
        mel = self._filters @ spectrum[..., :-1].abs().square()
        log = mel.clamp(min=1e-10).log10()
        loudest = log.amax(dim=(1, 2), keepdim=True)
        return ((log.maximum(loudest - 8.0) + 4.0) / 4.0).contiguous()
