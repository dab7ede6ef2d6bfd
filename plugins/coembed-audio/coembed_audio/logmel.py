"""Log-mel frames of a waveform, by torchaudio."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

_FLOOR = 1e-8  # of the power: 80 dB below a full-scale frame, so that silence and faint noise are near each other


class LogMel:
    """Samples to patches: `patch` frames of `bins` log-mel values each, `hop` samples apart.

    A frame depends on its own `window` samples only, and values on no other clip: silence is -1, a loud tone near 1.
    Zeros at the end fill the last patch.

    >>> LogMel(16000, bins=32, window=512, hop=160, patch=4)(np.zeros(16000, dtype=np.float32)).shape
    torch.Size([25, 128])
    """

    def __init__(self, rate: int, *, bins: int, window: int, hop: int, patch: int) -> None:
        self.window, self.hop, self.patch = window, hop, patch
        self.transform = MelSpectrogram(rate, n_fft=window, hop_length=hop, n_mels=bins, center=False, power=2.0)

    def count(self, length: int) -> int:
        """The number of patches of `length` samples."""
        frames = 1 + max(0, -(-(length - self.window) // self.hop))
        return -(-frames // self.patch)

    def __call__(self, wave: np.ndarray) -> Tensor:
        """Samples [n] to patches [T, patch * bins]."""
        patches = self.count(len(wave))
        filled = self.window + (patches * self.patch - 1) * self.hop
        power: Tensor = self.transform(torch.from_numpy(np.pad(wave, (0, filled - len(wave)))))  # [bins, frames]
        values = (power.clamp_min(_FLOOR).log10() + 3) / 5
        return values.T.reshape(patches, -1)
