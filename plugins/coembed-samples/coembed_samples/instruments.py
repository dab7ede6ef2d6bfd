"""`samples/instruments`: samples of a sound font beside what they are called."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from coembed.sources import Record, Source
from coembed_samples import fetch
from coembed_samples.soundfont import FontSample, SoundFont

_SIDE = re.compile(r"\s*\((?:L|R)\)?$|(?<=\d) ?[LR]$")  # names end at 20 letters, some within the bracket
# A note is a capital, or any letter of the scale that stands alone; then a sign, and the octave.
_NOTE = re.compile(r"(?:(?<![A-Za-z])[A-Ga-g]|(?<=[a-z])[A-G])([#b]?) ?(\d+)$")
_SHORTEST = 0.02


class Sound(NamedTuple):
    """A sound of one or two channels and what it is called."""

    name: str
    text: str
    stem: str
    channels: tuple[FontSample, ...]


class Instruments(Source):
    """Notes and strokes of instruments: `audio` (mono float32 samples, at most `seconds`, and the rate) and `text`.

    `text` is the instrument that plays the sample and the sample's name, its note spelt out: "Alto Sax: Alto G sharp
    6". Left and right of a stereo sample are averaged; some 890 sounds remain of Debian's fluid-soundfont-gm. `group`
    is the name without note and number, so that the notes of one instrument stay together; rates differ. Sounds
    are read when they are asked for. Pitches are what the names say: fonts do not agree on how octaves are counted.

    Fetch it with `coembed-samples fetch instruments`, or give the `folder` of another SF2 file. Raises NotFetched
    naming the command, ValueError for seconds that are not positive.
    """

    def __init__(self, *, seconds: float = 2.0, folder: Path | str | None = None) -> None:
        if seconds <= 0:
            raise ValueError(f"seconds={seconds} must be positive")
        self.seconds = seconds
        self.folder = Path(folder) if folder is not None else fetch.folder("instruments")

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """A made-up font with three sounds, one of them in two channels."""
        write_tiny(folder / "tiny.sf2")
        return cls(folder=folder)

    @property
    def towers(self) -> tuple[str, ...]:
        """The two towers of every record.

        >>> import tempfile
        >>> Instruments.tiny(Path(tempfile.mkdtemp())).towers
        ('audio', 'text')
        """
        return ("audio", "text")

    def __len__(self) -> int:
        return len(_sounds(self.folder)[1])

    def __iter__(self) -> Iterator[Record]:
        for sound in _sounds(self.folder)[1]:
            yield Record(_Items(self, sound), id=sound.name, group=sound.stem)


class _Items(Mapping[str, Any]):
    """A sound's two items; the audio is read when it is looked up."""

    def __init__(self, source: Instruments, sound: Sound) -> None:
        self.source, self.sound = source, sound

    def __getitem__(self, tower: str) -> Any:
        if tower == "text":
            return self.sound.text
        if tower != "audio":
            raise KeyError(tower)
        font = _sounds(self.source.folder)[0]
        waves = [font.wave(channel, self.source.seconds) for channel in self.sound.channels]
        length = min(map(len, waves))
        return sum(wave[:length] for wave in waves) / len(waves), self.sound.channels[0].rate

    def __contains__(self, tower: object) -> bool:
        return tower in ("audio", "text")  # Mapping's own would read the sound to find out

    def __iter__(self) -> Iterator[str]:
        return iter(("audio", "text"))

    def __len__(self) -> int:
        return 2


def spoken(name: str) -> tuple[str, str]:
    """A sample's name in words, and its stem: without note and number, in lower case.

    >>> spoken("Alto G#6"), spoken("solo_vox_c2"), spoken("Std Kick 5")
    (('Alto G sharp 6', 'alto'), ('solo vox C 2', 'solo vox'), ('Std Kick 5', 'std kick'))
    """
    name = " ".join(name.replace("_", " ").replace("# ", "#").split())
    match = _NOTE.search(name)
    rest = name[: match.start()].strip() if match else name
    stem = re.sub(r"[\s\d-]+$", "", rest).lower() or rest.lower() or name.lower()
    if not match:
        return name, stem
    sign = {"#": " sharp", "b": " flat", "": ""}[match[1]]
    return f"{rest} {match[0][0].upper()}{sign} {match[2]}".strip(), stem


@lru_cache(maxsize=2)
def _sounds(folder: Path) -> tuple[SoundFont, tuple[Sound, ...]]:
    """The font in a folder and its sounds, in its order."""
    paths = sorted(folder.glob("*.sf2"))
    if not paths:
        raise FileNotFoundError(f"{folder} has no .sf2 file")
    font = SoundFont(paths[0])
    sides: dict[str, dict[str, FontSample]] = {}
    for sample in font.samples:
        if sample.end - sample.start >= _SHORTEST * sample.rate > 0:
            name = _SIDE.sub("", sample.name)
            sides.setdefault(name, {}).setdefault(sample.name, sample)
    found = []
    for name, samples in sides.items():
        first = next(iter(samples.values()))
        channels = tuple(sample for sample in samples.values() if sample.rate == first.rate)[:2]
        text, stem = spoken(name)
        instrument = font.instruments.get(first.name, "").partition("/")[0]
        found.append(Sound(name, f"{instrument}: {text}" if instrument else text, stem, channels))
    return font, tuple(found)


def write_tiny(path: Path) -> None:
    """Write a sound font of four samples of a tenth of a second and two instruments, for tests."""
    import numpy as np

    rate, names = 8000, ("Low Horn C 4(L)", "Low Horn C 4(R)", "Low Horn G#4", "Drum 2")
    time = np.arange(rate // 10) / rate
    waves = [np.sin(2 * np.pi * pitch * time) * 12000 for pitch in (220, 221, 330, 90)]
    size = len(time)
    place = [i * (size + 46) for i in range(len(names))]  # the standard puts 46 zeros behind each sample
    gap = np.zeros(46)
    smpl = np.concatenate([part for wave in waves for part in (wave, gap)]).astype("<i2").tobytes()
    header = "<20sIIIIIBbHH"
    shdr = b"".join(
        struct.pack(header, name.encode(), start, start + size, start, start + size, rate, 60, 0, 0, 1)
        for name, start in zip(names, place, strict=True)
    )
    shdr += struct.pack(header, b"EOS", *[0] * 9)
    rows = ((b"Horn/GS", 0), (b"Drums", 3), (b"EOI", 4))  # name and first zone
    inst = b"".join(struct.pack("<20sH", *row) for row in rows)
    ibag = b"".join(struct.pack("<HH", i, 0) for i in range(5))
    igen = b"".join(struct.pack("<HH", 53, i) for i in range(4)) + struct.pack("<HH", 0, 0)
    lists = ((b"sdta", ((b"smpl", smpl),)),
             (b"pdta", ((b"inst", inst), (b"ibag", ibag), (b"igen", igen), (b"shdr", shdr))))  # fmt: skip
    body = b"sfbk"
    for kind, chunks in lists:
        body += _chunk(b"LIST", kind + b"".join(_chunk(name, data) for name, data in chunks))
    path.write_bytes(_chunk(b"RIFF", body))


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
