"""What is counted in a fetched set, so that a changed package is noticed."""

from __future__ import annotations

import json
from pathlib import Path

from coembed_samples.fasta import read_fasta, text_lines


def letters(folder: Path) -> dict[str, int]:
    """Letters of each genome: the length of all its sequences."""
    return {_stem(path): sum(len(sequence) for _, sequence in read_fasta(path)) for path in _fasta(folder)}


def entries(folder: Path) -> dict[str, int]:
    """Entries of each FASTA file."""
    return {_stem(path): sum(1 for _ in read_fasta(path)) for path in _fasta(folder)}


def synsets(folder: Path) -> dict[str, int]:
    """Synsets in WordNet's four data files, and the pointers from them."""
    from coembed_samples.synsets import PARTS, read_synsets

    found = [synset for part in PARTS for synset in read_synsets(folder / f"data.{part}")]
    return {"synsets": len(found), "pointers": sum(len(synset.pointers) for synset in found)}


def font_samples(folder: Path) -> dict[str, int]:
    """Samples of all sound fonts."""
    from coembed_samples.soundfont import SoundFont

    return {"samples": sum(len(SoundFont(path).samples) for path in folder.glob("*.sf2"))}


def tagged(folder: Path) -> dict[str, int]:
    """Icons with search terms, by collection."""
    with text_lines(folder / "lucide" / "tags.json") as file:
        tags = json.load(file)
    with text_lines(folder / "fontawesome" / "icon-families.json") as file:
        families = json.load(file)
    drawn = sum(1 for name, words in tags.items() if words and (folder / "lucide" / f"{name}.svg").is_file())
    return {"lucide": drawn, "fontawesome": sum(1 for facts in families.values() if facts["search"]["terms"])}


def _fasta(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if ".fasta" in path.name or ".fna" in path.name)


def _stem(path: Path) -> str:
    return path.name.partition(".fasta")[0].partition(".fna")[0]
