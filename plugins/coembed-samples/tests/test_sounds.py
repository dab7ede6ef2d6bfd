"""The sounds: what is carried, how it is grouped, and what happens without a decoder."""

from __future__ import annotations

import pickle
import sys
from importlib.resources import files

import pytest

import coembed
from coembed_samples.sounds import Sounds

np = pytest.importorskip("numpy")
pytest.importorskip("soundfile")


def test_every_sound_is_a_second_at_most_and_sounds() -> None:
    source = coembed.load("samples/sounds")
    assert len(source) == len({r.id for r in source}) == len({r["text"] for r in source}) == 130
    seen: set[bytes] = set()
    for record in source:
        samples, rate = record["audio"]
        assert rate == 16_000 and samples.dtype == np.float32 and samples.ndim == 1
        assert 300 <= len(samples) <= 16_000, record.id
        assert np.isfinite(samples).all() and 0.005 < np.abs(samples).max() <= 1, record.id
        assert record["text"] == record.id.replace("_", " ")
        assert record.extra["source"].startswith("http") and record.extra["author"]
        seen.add(samples.tobytes())
    assert len(seen) == 130


def test_carried_data_is_small_and_complete() -> None:
    folder = files("coembed_samples") / "data"
    carried = {path.name: len(path.read_bytes()) for path in (folder / "sounds").iterdir()}
    assert set(carried) == {f"{record.id}.flac" for record in Sounds()} | {"index.json"}
    assert sum(carried.values()) < 2_000_000
    assert sum(carried.values()) + sum(len(path.read_bytes()) for path in (folder / "emoji").iterdir()) < 5_000_000


def test_families_are_labels_and_the_hard_split() -> None:
    families = {record.id: record.group for record in Sounds("family")}
    assert len(set(families.values())) == 12
    assert families == {record.id: record.label for record in Sounds()}
    assert families["drum_cymbal_closed"] == "drum" and families["bd_808"] == "bd"
    assert max(list(families.values()).count(family) for family in families.values()) == 26


def test_takes_of_one_sound_share_a_group() -> None:
    groups = {record.id: record.group for record in Sounds()}
    for first, second in [
        ("drum_snare_hard", "drum_snare_soft"),
        ("tabla_ke1", "tabla_ke3"),
        ("tabla_te2", "tabla_te_m"),
        ("tabla_na", "tabla_na_o"),
        ("elec_blip", "elec_blip2"),
        ("loop_amen", "loop_amen_full"),
    ]:
        assert groups[first] == groups[second]
    assert len({groups[name] for name in ("drum_cymbal_open", "drum_cymbal_closed", "bd_808", "drum_roll")}) == 4
    assert len(set(groups.values())) == 102


@pytest.mark.parametrize("split_by", ["family", "sound"])
def test_no_group_is_on_both_sides_of_a_split(split_by: str) -> None:
    for seed in range(3):
        train, held = Sounds(split_by).split(0.3, seed=seed)
        assert len(train) + len(held) == 130
        assert not {r.group for r in train} & {r.group for r in held}


def test_audio_is_decoded_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    reads: list[object] = []
    real = soundfile.read
    monkeypatch.setattr(soundfile, "read", lambda *a, **k: reads.append(a) or real(*a, **k))
    source = Sounds()
    records = list(source)
    assert "audio" in records[0] and records[0]["text"] and source.towers == ("audio", "text") and not reads
    again = pickle.loads(pickle.dumps(records[0]))
    assert np.array_equal(again["audio"][0], records[0]["audio"][0]) and len(reads) == 2
    assert dict(records[1].items)["text"] == "ambi dark woosh"
    with pytest.raises(KeyError):
        records[0]["image"]


def test_without_soundfile_only_this_source_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ImportError, match=r"pip install 'coembed-samples\[sounds\]'"):
        Sounds()
    assert len(coembed.load("samples/emoji")) == 1911


def test_wrong_split_says_what_there_is() -> None:
    with pytest.raises(ValueError, match="'base' is neither"):
        Sounds("base")
