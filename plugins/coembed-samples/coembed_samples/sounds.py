"""`samples/sounds`: 130 short sounds and their names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from coembed.sources import Record, Source

SplitBy = Literal["family", "sound"]

# What is left of a name without them is one stroke of one instrument: tabla_te1, tabla_te2 and tabla_te_m.
_TAKE = re.compile(r"(\d+|_(hard|soft|full|m|ne|o|s))+$")


class Sounds(Source):
    """Sounds as pairs of audio (mono float32 samples at 16 kHz, at most a second, with the rate) and a text: the name.

    Samples of Sonic Pi that Debian lists as CC0: drums, tabla, basses, electronic blips, atmospheres, loops. `text` is
    the file's name in words ("drum cymbal closed"), `id` the name, `label` its family ("drum", 12 of them),
    `extra["source"]` where it was published. A record's audio is decoded whenever it is asked for.

    `split_by` chooses `group`, that is, what `split` keeps together:

    - `"sound"` keeps takes of one sound together (`tabla_ke1` to `tabla_ke3`, the hard and the soft snare): 102 groups;
    - `"family"` holds out whole families, the harder test; one of them, the tabla, has 26 of the 130 sounds.

    Raises ValueError for an unknown `split_by`, ImportError if soundfile is missing.

    >>> source = Sounds()
    >>> samples, rate = source[0]["audio"]
    >>> len(source), source[0]["text"], samples.shape, rate
    (130, 'ambi choir', (16000,), 16000)
    """

    def __init__(self, split_by: SplitBy = "sound") -> None:
        if split_by not in get_args(SplitBy):
            raise ValueError(f"split_by {split_by!r} is neither 'family' nor 'sound'")
        try:
            import soundfile
        except (ImportError, OSError) as error:  # OSError: installed, but without its library
            raise ImportError(
                f"samples/sounds needs soundfile to decode ({error}): pip install 'coembed-samples[sounds]'"
            ) from error
        assert soundfile
        self.split_by = split_by

    @property
    def towers(self) -> tuple[str, ...]:
        """The two towers of every record.

        >>> Sounds().towers
        ('audio', 'text')
        """
        return ("audio", "text")

    def __len__(self) -> int:
        return len(_index())

    def __iter__(self) -> Iterator[Record]:
        for name, facts in _index().items():
            family = name.partition("_")[0]
            yield Record(
                _Items(name),
                id=name,
                group=family if self.split_by == "family" else _TAKE.sub("", name),
                label=family,
                extra=facts,
            )


class _Items(Mapping[str, Any]):
    """A sound's two items; the audio is decoded when it is looked up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, tower: str) -> Any:
        if tower == "text":
            return self.name.replace("_", " ")
        if tower == "audio":
            return _decoded(self.name)
        raise KeyError(tower)

    def __contains__(self, tower: object) -> bool:
        return tower in ("audio", "text")  # Mapping's own would decode to find out

    def __iter__(self) -> Iterator[str]:
        return iter(("audio", "text"))

    def __len__(self) -> int:
        return 2


@cache
def _index() -> dict[str, dict[str, str]]:
    data = files("coembed_samples") / "data" / "sounds" / "index.json"
    return dict(json.loads(data.read_text("utf-8")))


def _decoded(name: str) -> tuple[Any, int]:
    import soundfile

    with (files("coembed_samples") / "data" / "sounds" / f"{name}.flac").open("rb") as file:
        samples, rate = soundfile.read(file, dtype="float32")
    return samples, int(rate)
