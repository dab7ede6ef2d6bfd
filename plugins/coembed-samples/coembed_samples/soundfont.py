"""Sound fonts (SF2): the named samples in one, read one at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

_HEADER = struct.Struct("<20sIIIIIBbHH")  # a record of `shdr`: SoundFont 2.04, section 7.10
_INSTRUMENT = struct.Struct("<20sH")
_SAMPLE_ID = 53  # the generator that names a zone's sample
_ROM = 0x8000


class FontSample(NamedTuple):
    """A sample's name, where it lies in the font (in samples), and its rate."""

    name: str
    start: int
    end: int
    rate: int


@dataclass(frozen=True)
class SoundFont:
    """A sound font. Raises ValueError for a file that is none.

    `samples` are in the order of the file, those in a chip's memory left out.
    """

    path: Path

    @cached_property
    def _chunks(self) -> dict[str, tuple[int, int]]:
        """Place and size of each chunk inside the lists."""
        found: dict[str, tuple[int, int]] = {}
        with self.path.open("rb") as file:
            riff, size, kind = struct.unpack("<4sI4s", file.read(12).ljust(12))
            if riff != b"RIFF" or kind != b"sfbk":
                raise ValueError(f"{self.path} is no sound font")
            end = 8 + size
            while file.tell() + 8 <= end:
                name, size = struct.unpack("<4sI", file.read(8))
                if name == b"LIST":
                    file.seek(4, 1)  # its kind; its chunks follow
                    continue
                found[name.decode("latin-1")] = (file.tell(), size)
                file.seek(size + size % 2, 1)
        if missing := {"smpl", "shdr", "inst", "ibag", "igen"} - found.keys():
            raise ValueError(f"{self.path} is no whole sound font: it has no {', '.join(sorted(missing))}")
        return found

    def _read(self, chunk: str) -> bytes:
        place, size = self._chunks[chunk]
        with self.path.open("rb") as file:
            file.seek(place)
            return file.read(size)

    @cached_property
    def samples(self) -> tuple[FontSample, ...]:
        """All samples; the last record of the table ends it and is none."""
        rows = list(_HEADER.iter_unpack(self._read("shdr")))[:-1]
        return tuple(FontSample(_text(row[0]), row[1], row[2], row[5]) for row in rows if not row[9] & _ROM)

    @cached_property
    def instruments(self) -> dict[str, str]:
        """Name of the first instrument that plays a sample, by the sample's name."""
        headers = list(_INSTRUMENT.iter_unpack(self._read("inst")))
        bags = [bag for bag, _ in struct.iter_unpack("<HH", self._read("ibag"))]
        generators = list(struct.iter_unpack("<HH", self._read("igen")))
        names = [_text(row[0]) for row in _HEADER.iter_unpack(self._read("shdr"))]
        found: dict[str, str] = {}
        for (name, first), (_, last) in pairwise(headers):
            for kind, amount in generators[bags[first] : bags[last]]:
                if kind == _SAMPLE_ID:
                    found.setdefault(names[amount], _text(name))
        return found

    def wave(self, sample: FontSample, seconds: float) -> Any:
        """A sample's first seconds as float32 in -1..1."""
        import numpy as np

        count = min(sample.end - sample.start, round(seconds * sample.rate))
        whole = np.memmap(self.path, dtype="<i2", mode="r", offset=self._chunks["smpl"][0], shape=(sample.end,))
        return np.asarray(whole[sample.start : sample.start + count], dtype=np.float32) / 32768


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("latin-1").strip()
