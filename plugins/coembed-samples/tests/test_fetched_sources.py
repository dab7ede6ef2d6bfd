"""The sources over fetched sets, on files of the same formats made here."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from coembed_samples.families import alike, families
from coembed_samples.icons import Icons, base
from coembed_samples.instruments import Instruments, spoken
from coembed_samples.proteins import Proteins
from coembed_samples.synsets import read_synsets
from coembed_samples.translate import coding, frames, locate, reverse_complement
from coembed_samples.triples import Triples
from coembed_samples.wordnet import WordNet

CODONS = {"M": "ATG", "K": "AAA", "L": "CTG", "V": "GTT", "A": "GCA", "P": "CCG", "D": "GAT", "T": "ACC", "W": "TGG"}


def test_proteins_are_named_once_and_grouped(tmp_path: Path) -> None:
    (tmp_path / "One.fasta").write_text(
        ">a ~~~dnaK~~~chaperone\nMKLV\nLLAA\n>b 1.1.1.1~~~~~~hypothetical protein\nMKKKK\n"
        ">c ~~~dnaK_2~~~chaperone 2\nMPD\n"
    )
    (tmp_path / "Two.fasta").write_text(">a ~~~~~~Chaperone 2\nMTTT\n>d ~~~~~~other\nMKLVLLAA\n>e ~~~~~~other\nMWW\n")
    source = Proteins(tmp_path)
    assert [r.id for r in source] == ["One/a", "One/c", "Two/a", "Two/e"]
    assert [r.group for r in source] == ["One/a", "One/a", "One/a", "Two/e"]
    assert source[0].items == {"protein": "MKLVLLAA", "text": "chaperone"}
    assert source[1].extra == {"gene": "dnaK_2", "ec": "", "genus": "One"}


def test_a_header_of_another_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.fasta").write_text(">sp|P1 some protein\nMK\n")
    with pytest.raises(ValueError, match=r"'sp\|P1 some protein' is not of the form"):
        len(Proteins(tmp_path))


def test_alike_agrees_with_counting() -> None:
    draw = random.Random(0)
    first = "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=120))
    rows = [first, first[:60] + first[90:], first[100:] + first[:15], "".join(draw.choices("ACDEFGHIKL", k=90)), "MKV"]
    kmers = [{row[i : i + 8] for i in range(len(row) - 7)} for row in rows]
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    counted = [
        (i, j) for i, j in pairs if (n := len(kmers[i] & kmers[j])) and n >= 0.2 * min(len(kmers[i]), len(kmers[j]))
    ]
    assert alike(rows) == counted and (0, 1) in counted
    assert families(list("abcde"), [""] * 5, list("vwxyz"), rows)[:2] == ["a", "a"]


def test_six_frames_find_a_protein_on_either_strand() -> None:
    draw = random.Random(1)
    made: dict[str, str] = {}
    for start in ("ATG", "GTG"):
        residues = "".join(draw.choices("KLVAPDTW", k=40))
        made["M" + residues] = start + "".join(CODONS[r] for r in residues) + "TAA"
    forward, backward = made.values()
    genome = f"CCTAA{forward}ACGGTAGT{reverse_complement(backward)}TTAC"
    genes = locate(genome, [*made, "M" + "KLVAPDTW" * 5])
    assert genes[2] is None
    assert [coding(genome, gene) for gene in genes[:2] if gene] == [forward, backward]
    assert [gene.strand for gene in genes[:2] if gene] == [1, -1]
    assert len(list(frames("ACGTNACG"))) == 6 and "X" in next(iter(frames("ACNACG")))[2]


def test_translation_is_biopythons() -> None:
    seq = pytest.importorskip("Bio.Seq")
    draw = random.Random(2)
    genome = "".join(draw.choices("ACGT", k=3001))
    for strand, offset, protein in frames(genome):
        whole = genome if strand > 0 else reverse_complement(genome)
        assert protein == str(seq.Seq(whole[offset : offset + 3 * len(protein)]).translate(table=11))


def test_triples_share_ids_and_groups_with_proteins(tmp_path: Path) -> None:
    triples = Triples.tiny(tmp_path)
    proteins = {r.id: r for r in Proteins(triples.proteins)}
    assert len(triples) == 2
    for record in triples:
        assert record["protein"] == proteins[record.id]["protein"] and record.group == proteins[record.id].group
        assert len(record["dna"]) == 3 * len(record["protein"]) + 3
    assert {r["dna"][:3] for r in triples} == {"ATG", "GTG"} and {r.extra["strand"] for r in triples} == {1, -1}


NOUNS = """\
00000001 03 n 01 animal 0 001 ~ 00000002 n 0000 | a living thing
00000002 03 n 02 dog 0 domestic_dog 0 004 @ 00000001 n 0000 ~ 00000003 n 0000 %p 00000004 n 0000 + 00000001 v 0101 | \
a friend; "the dog barked all night"
00000003 03 n 03 hunting_dog 0 Dog 1 dogma 0 001 @ 00000002 n 0000 | helps at the hunt
00000004 03 n 0a flag 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 001 #p 00000002 n 0000 | a tail
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "data.noun").write_text("  1 licence | of the file\n" + NOUNS, "utf-8")
    (tmp_path / "data.verb").write_text("00000001 30 v 01 dog 0 001 + 00000002 n 0102 01 + 08 00 | follow\n", "utf-8")
    (tmp_path / "data.adj").write_text("00000005 00 s 01 galore(ip) 0 000 | plenty\n", "utf-8")
    (tmp_path / "data.adv").write_text("", "utf-8")
    return tmp_path


def test_wordnet_is_parsed(net: Path) -> None:
    nouns = {synset.key: synset for synset in read_synsets(net / "data.noun")}
    assert len(nouns["n00000004"].words) == 10  # the count is hexadecimal
    assert nouns["n00000002"].pointers[0] == ("hypernym", "n00000001")
    assert nouns["n00000002"].definition == "a friend"
    (adjective,) = read_synsets(net / "data.adj")
    assert (adjective.key, adjective.words) == ("a00000005", ("galore",))
    (net / "data.adv").write_text("00000006 02 r 01 so 0 003 ! 00 | cut\n")
    with pytest.raises(ValueError, match=r"data.adv, line 1 is no synset"):
        list(read_synsets(net / "data.adv"))


def test_a_synset_s_own_words_are_hidden_around_it(net: Path) -> None:
    source = WordNet(hops=1, depth=1, folder=net)
    dog = next(r for r in source if r.id == "n00000002")
    graph = dog["graph"]
    assert graph["graph"]["root"] == 0 and dog.extra["words"] == ("dog", "domestic dog")
    assert [node["text"] for node in graph["nodes"]] == [
        "",
        "animal",
        "hunting, dogma",
        "flag, b, c, d, e, f, g, h, i, j",
        "",
    ]
    assert {(e["source"], e["target"], e["type"]) for e in graph["edges"]} == {
        (0, 1, "hypernym"), (0, 2, "hyponym"), (0, 3, "has part"), (0, 4, "derivation"),
    }  # fmt: skip
    assert dog["text"] == "a friend" and "the dog barked" not in dog["text"]
    assert [r.group for r in source] == ["n00000001", "n00000002", "n00000002", "n00000004"]
    assert [r.id for r in WordNet("verb", folder=net)] == ["v00000001"]
    assert len(WordNet(hops=2, most=2, folder=net)[0]["graph"]["nodes"]) == 2


def test_the_graphs_are_what_coembed_graph_reads(tmp_path: Path) -> None:
    reader = pytest.importorskip("coembed_graph.reader")
    for record in WordNet.tiny(tmp_path):
        graph = reader.Reader()(record["graph"])
        assert graph.root == 0 and graph.texts[0] == ""


@pytest.mark.parametrize("wrong", [{"part": "pronoun"}, {"hops": 0}, {"most": 0}, {"depth": 0}])
def test_wordnet_refuses(net: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        WordNet(folder=net, **wrong)  # type: ignore[arg-type]


def test_a_sound_font_s_sounds(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    source = Instruments.tiny(tmp_path)
    assert {r.id: (r["text"], r.group) for r in source} == {
        "Low Horn C 4": ("Horn: Low Horn C 4", "low horn"),
        "Low Horn G#4": ("Horn: Low Horn G sharp 4", "low horn"),
        "Drum 2": ("Drums: Drum 2", "drum"),
    }
    audio, rate = source[0]["audio"]
    assert (rate, len(audio), audio.dtype) == (8000, 800, np.float32)
    spectrum = np.abs(np.fft.rfft(audio, 8000))
    assert spectrum.argmax() in (220, 221) and 0.3 < np.abs(audio).max() < 0.4  # the mean of both channels
    assert len(Instruments(seconds=0.05, folder=tmp_path)[2]["audio"][0]) == 400
    assert spoken("tromboneEb4") == ("trombone E flat 4", "trombone") and spoken("Std Kick 5")[1] == "std kick"
    (tmp_path / "tiny.sf2").write_bytes(b"RIFFxxxxWAVE")
    with pytest.raises(ValueError, match="is no sound font"):
        list(Instruments(folder=tmp_path / ".." / tmp_path.name))


def test_icons_are_drawn_and_grouped(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    source = Icons.tiny(tmp_path)
    assert {r.id: (r["text"], r.group, r.label) for r in source} == {
        "lucide/disc": ("disc: round, full", "disc", "disc"),
        "lucide/square-disc": ("square disc: framed", "disc", "square-disc"),
        "fontawesome/bar": ("bar: wide, flat", "bar", "bar"),
    }
    disc, bar = source[0]["image"], source[2]["image"]
    assert disc.size == bar.size == (16, 16) and disc.mode == "RGB"
    assert disc.getpixel((8, 8)) == (255, 255, 255) and min(disc.getpixel((2, 8))) < 200  # a ring
    assert bar.getpixel((8, 8)) == (0, 0, 0) and bar.getpixel((8, 1)) == bar.getpixel((8, 14)) == (255, 255, 255)
    assert base("users-round") == base("user-plus") == "user"
    with pytest.raises(ValueError, match="size=4"):
        Icons(size=4, folder=tmp_path)
