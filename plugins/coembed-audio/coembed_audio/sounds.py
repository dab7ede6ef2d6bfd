"""SoundEncoder: what encoders do with sounds, whatever reads the samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coembed.encoder import Encoder
from coembed_audio.read import wave_file, wave_key
from coembed_audio.samples import check_prompt, samples


class SoundEncoder(Encoder):
    """Sounds without prompts, known by what they hold; a subclass adds `collate`, `size` and `forward`.

    Items are what `coembed_audio.read.EXPECTED` names.
    """

    def prompt_for(self, role: str | None = None, prompt: str | None = None) -> str:
        """As for any encoder, but a prompt is refused before anything runs."""
        check_prompt(self.spec.name, prompt)
        return super().prompt_for(role, prompt)

    def key(self, item: Any) -> bytes:
        """A digest of the sound, not of the path that leads to it."""
        return wave_key(item)

    def read(self, path: Path) -> list[Any]:
        """The sound in a file; raises BadItem for a file that holds none."""
        return list(wave_file(path))

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """Five sounds made on the spot."""
        return samples()
