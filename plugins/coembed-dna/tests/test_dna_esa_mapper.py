"""The mapper: reads find where they come from, whatever the strand, and CIGARs reproduce them."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

import coembed
from coembed import Space, Tower
from coembed.index import Exact
from coembed_dna.esa import cigar
from coembed_dna.esa.mapper import Mapper, MapperFileError, spectra
from coembed_dna.esa.reads import BadRead, Read
from coembed_dna.esa.refine import Alignment, Window, aligned
from coembed_dna.noise import Rates, counted, mutate
from coembed_dna.sequence import reverse_complement

pytest.importorskip("edlib")
pytest.importorskip("scipy")


def draw(length: int, seed: int = 0, letters: str = "ACGT") -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


REPEAT = draw(300, 11)
CONTIGS = {
    "one": draw(4000, 1) + REPEAT + draw(2000, 2) + "N" * 700 + draw(3000, 3),
    "two": draw(1500, 4) + REPEAT + draw(1200, 5),
    "tiny": draw(90, 6),
}
TILES = {"fragment": 500, "step": 300}


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    return Mapper.build(CONTIGS, **TILES)


def places() -> list[tuple[str, int]]:
    """Where a read of 120 bases has neither N nor repeat."""
    found = []
    for name in ("one", "two"):
        text = CONTIGS[name]
        banned = text.index(REPEAT)
        for at in range(0, len(text) - 120, 61):
            if "N" not in text[at : at + 120] and not banned - 120 < at < banned + 300:
                found.append((name, at))
    return found


def turned(reads: list[str], wanted: list[tuple[str, int, str]]) -> list[str]:
    """Reads as the strand that is wanted has them."""
    return [r if s == "+" else reverse_complement(r) for r, (*_, s) in zip(reads, wanted, strict=True)]


def check(hit: Alignment) -> None:
    """The CIGAR reproduces the read, and the figures are those of the CIGAR."""
    assert hit.contig is not None
    read = hit.read.bases if hit.strand == "+" else reverse_complement(hit.read.bases)
    there = CONTIGS[hit.contig][hit.start : hit.end]
    ops = list(hit.ops)
    assert cigar.apply(ops, read, there) == read
    assert cigar.spans(ops) == (len(read), len(there)) and cigar.edits(ops) == hit.edits
    assert ops[0][1] not in "ID" and ops[-1][1] not in "ID"
    taken = len(read) - sum(count for count, op in ops if op == "S")
    assert hit.score == 2 * taken - 3 * hit.edits <= 2 * len(read)


def test_clean_reads_of_both_strands_come_home(mapper):
    wanted = [(name, at, strand) for name, at in places() for strand in "+-"]
    reads = [CONTIGS[name][at : at + 120] for name, at, _ in wanted]
    reads = [
        read if strand == "+" else reverse_complement(read) for read, (*_, strand) in zip(reads, wanted, strict=True)
    ]
    hits = list(mapper.align(reads))
    assert [(hit.contig, hit.start, hit.strand) for hit in hits] == wanted
    for hit in hits:
        check(hit)
        assert (hit.cigar, hit.edits, hit.score, hit.quality) == ("120=", 0, 240, 60)


@pytest.mark.parametrize("rates", [Rates((0.05, 0.05)), Rates((0, 0), (0.02, 0.02), (0.02, 0.02))])
def test_noisy_reads_come_home_and_their_cigars_reproduce_them(mapper, rates):
    found = 0
    for i, (name, at) in enumerate(places()):
        read = mutate(CONTIGS[name][at : at + 120], rates, counted(1, i))
        (hit,) = mapper.align([reverse_complement(read) if i % 2 else read])
        if hit.contig is not None:
            check(hit)
        found += (hit.contig, hit.strand) == (name, "-" if i % 2 else "+") and abs(hit.start - at) <= 10
    assert found >= 0.98 * len(places())


def test_equals_a_plain_search_of_every_place():
    pick = random.Random(8)
    for _ in range(40):
        text = draw(pick.randint(20, 60), pick.random())
        read = mutate(text[5:18], Rates((0, 0.3), (0, 0.1), (0, 0.1)), counted(9, pick.randint(0, 999)))
        hit = aligned(Read("r", read), [Window("c", 0, len(text), 1)], {"c": text}, len(read))
        ops = [op for op in hit.ops if op[1] != "S"]
        clipped = len(read) - cigar.spans(ops)[0]
        assert hit.edits <= plain(read, text) <= hit.edits + clipped


def plain(read: str, text: str) -> int:
    """Fewest edits of a whole read anywhere in a text, by the textbook's table."""
    row = [0] * (len(text) + 1)
    for i, base in enumerate(read, 1):
        last, row = row, [i]
        for j, other in enumerate(text, 1):
            row.append(min(last[j - 1] + (base != other), last[j] + 1, row[j - 1] + 1))
    return min(row)


def test_reads_over_the_ends_of_contigs_are_clipped_only_there(mapper):
    text = CONTIGS["two"]
    left, right = draw(7, 21) + text[:100], text[-100:] + draw(9, 22)
    hits = list(mapper.align([left, reverse_complement(right), text[:80], text[-80:]]))
    assert [(hit.start, hit.end, hit.strand) for hit in hits[2:]] == [(0, 80, "+"), (len(text) - 80, len(text), "+")]
    assert hits[0].start == 0 and hits[0].ops[0] == (7, "S") and hits[0].edits == 0
    assert hits[1].end == len(text) and hits[1].ops[-1] == (9, "S") and hits[1].strand == "-"
    for hit in hits:
        check(hit)


def test_runs_of_n_and_contigs_shorter_than_a_fragment(mapper):
    assert [part.name for part in mapper.tiling.skipped] == ["one:6300-6800"]
    at = CONTIGS["one"].index("N")
    edge, tiny = CONTIGS["one"][at - 110 : at + 10], CONTIGS["tiny"]
    hits = list(mapper.align([edge, tiny]))
    assert (hits[0].contig, hits[0].start) == ("one", at - 110) and hits[0].edits in (0, 10)
    assert (hits[1].contig, hits[1].start, hits[1].cigar) == ("tiny", 0, "90=")


def test_a_read_longer_than_the_overlap_still_finds_its_place(mapper):
    read = CONTIGS["one"][250:950]
    (hit,) = mapper.align([read])
    assert len(read) > mapper.tiling.covers and (hit.start, hit.cigar) == (250, "700=")


def test_mapping_quality_tells_repeats_from_unique_places(mapper):
    inside = REPEAT[50:200]
    half = CONTIGS["one"][3960:4000] + REPEAT[:80]
    twice, unique, far = mapper.align([inside, half, CONTIGS["one"][100:220]])
    assert (twice.places, twice.runner_up, twice.quality) == (2, 0, 3)
    assert unique.start == 3960 and unique.quality >= 40
    assert far.runner_up is None and far.quality == 60
    near = list(inside)
    near[70] = "A" if near[70] != "A" else "C"
    other = {"a": draw(900, 1) + inside + draw(900, 2), "b": draw(800, 3) + "".join(near) + draw(800, 4)}
    (one,) = Mapper.build(other).align([inside])
    assert (one.contig, one.runner_up, one.quality) == ("a", 1, 20)


def test_what_is_not_there_is_unmapped(mapper):
    hits = list(mapper.align([draw(150, 99), "ACG", "N" * 100]))
    assert [hit.contig for hit in hits] == [None] * 3 and [hit.cigar for hit in hits] == ["*"] * 3
    assert {(hit.quality, hit.score) for hit in hits} == {(0, 0)}
    strict, lax = (
        next(mapper.align([mutate(CONTIGS["two"][50:200], Rates((0.1, 0.1)), counted(3, 3))], max_error=e))
        for e in (0.01, 0.2)
    )
    assert strict.contig is None and lax.contig == "two"


def test_alone_or_in_a_batch_a_read_gets_the_same(mapper):
    reads = [CONTIGS[name][at : at + 120] for name, at in places()[:40]]
    assert list(mapper.align(reads)) == [
        Alignment(Read(f"read{i}", read), **rest(hit))
        for i, (read, hit) in enumerate(((r, next(mapper.align([r]))) for r in reads), 1)
    ]


def rest(hit: Alignment) -> dict[str, object]:
    return {name: getattr(hit, name) for name in Alignment.__slots__ if name != "read"}


def test_sparse_and_dense_spectra_give_the_same_scores(mapper):
    encoder = spectra(8, 2048)
    sparse = Mapper.build(CONTIGS, encoder, **TILES).candidates
    texts = [CONTIGS[name][at : at + 120] for name, at in places()[:20]]
    names = [part.name for part in mapper.tiling.fragments]
    parts = [CONTIGS[part.contig][part.start : part.end] for part in mapper.tiling.fragments]
    index = Exact()
    index.add(names, encoder.encode(parts))
    scores, rows, _ = sparse.search(texts, 3)
    for place, hits in enumerate(index.search(encoder.encode(texts), 3)):
        assert [hit.id for hit in hits] == [names[row] for row in rows[place]]
        assert torch.allclose(torch.tensor([hit.score for hit in hits]), torch.from_numpy(scores[place]), atol=1e-6)
    itself, at, _ = sparse.search(parts[:5], 1)
    assert itself[:, 0] == pytest.approx([1] * 5, abs=1e-5) and at[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_an_encoder_that_tells_strands_apart_is_asked_for_both():
    encoder = coembed.load("dna/kmer", k=6, canonical=False)
    mapper = Mapper.build(CONTIGS, Space({"x": Tower(encoder, "linear", dim=64)}), **TILES)
    assert not mapper.candidates.blind and isinstance(mapper.candidates.index, Exact)
    wanted = [(name, at, strand) for name, at in places()[::7] for strand in "+-"]
    reads = [CONTIGS[name][at : at + 120] for name, at, _ in wanted]
    hits = mapper.align(turned(reads, wanted))
    found = sum((hit.contig, hit.start, hit.strand) == want for hit, want in zip(hits, wanted, strict=True))
    assert found >= 0.9 * len(wanted)


def test_two_towers_named_fragment_and_read(mapper):
    space = Space({name: coembed.load("dna/kmer", k=5) for name in ("read", "fragment")})
    hit = next(Mapper.build(CONTIGS, space, **TILES).align([CONTIGS["two"][40:200]], k=8))
    assert (hit.contig, hit.start) == ("two", 40)
    with pytest.raises(ValueError, match="needs one tower, or the towers fragment and read; the space has a, b"):
        Mapper.build(CONTIGS, Space({name: coembed.load("dna/kmer") for name in "ab"}))


@pytest.mark.parametrize("encoder", [None, "dna/kmer", "dense"])
def test_a_saved_mapper_gives_the_same(tmp_path, encoder):
    chosen = Tower(coembed.load("dna/kmer", k=5), "linear", dim=32) if encoder == "dense" else encoder
    built = Mapper.build(CONTIGS, chosen, **TILES)
    built.save(tmp_path / "index")
    loaded = Mapper.load(tmp_path / "index", reference=CONTIGS)
    reads = [CONTIGS[name][at : at + 120] for name, at in places()[::5]]
    assert list(loaded.align(reads)) == list(built.align(reads))
    assert not [path for path in (tmp_path / "index").rglob("*") if path.suffix in (".pkl", ".pt", ".bin")]
    with pytest.raises(MapperFileError, match="not empty"):
        built.save(tmp_path / "index")


def test_damage_to_a_saved_mapper_is_named(tmp_path, mapper):
    mapper.save(tmp_path / "index")
    with pytest.raises(MapperFileError, match="another reference than the one given"):
        Mapper.load(tmp_path / "index", reference={"one": "ACGT"})
    path = tmp_path / "index" / "reference.fa"
    text = path.read_text("utf-8")
    path.write_text(text.replace("A", "C", 1), "utf-8")
    with pytest.raises(MapperFileError, match=r"reference\.fa is not the reference that was indexed"):
        Mapper.load(tmp_path / "index")
    path.write_text(text, "utf-8")
    vectors = tmp_path / "index" / "spectra.safetensors"
    vectors.write_bytes(vectors.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"spectra\.safetensors: damaged"):
        Mapper.load(tmp_path / "index")
    (tmp_path / "index" / "mapper.json").write_text("{}", "utf-8")
    with pytest.raises(MapperFileError, match=r"mapper\.json: missing or damaged"):
        Mapper.load(tmp_path / "index")


def test_bad_reads_and_arguments_are_named(mapper):
    reads = [Read("good", CONTIGS["two"][:90]), Read("gap", "AC-GT"), Read("short", "ACGT", "III"), ""]
    bad: list[BadRead] = []
    assert [hit.read.name for hit in mapper.align(reads, on_error=bad.append)] == ["good"]
    assert [str(error).partition(":")[0] for error in bad] == [
        "read 'gap' (number 2)",
        "read 'short' (number 3)",
        "read 'read4' (number 4)",
    ]
    with pytest.raises(BadRead, match=r"read 'gap'.*gaps '-'"):
        list(mapper.align(reads))
    for kwargs, message in (({"k": 0}, "k 0 must be at least 1"), ({"max_error": 1}, "max_error 1 must lie")):
        with pytest.raises(ValueError, match=message):
            next(mapper.align(reads, **kwargs))
    taken = Exact()
    taken.add(["x"], coembed.load("dna/kmer").encode(["ACGT" * 5]))
    with pytest.raises(ValueError, match="the index holds 1 rows already"):
        Mapper.build(CONTIGS, Tower(coembed.load("dna/kmer"), "linear", dim=8), index=taken)


def test_alignments_come_as_a_stream(mapper):
    endless = (CONTIGS["two"][i % 500 : i % 500 + 100] for i in itertools.count())
    assert [hit.start for hit in itertools.islice(mapper.align(endless), 3)] == [0, 1, 2]


def test_an_index_that_is_named_is_used_for_spectra_too():
    reads = [CONTIGS[name][at : at + 120] for name, at in places()[::6]]
    encoder = spectra(8, 2048)
    sparse, dense = (Mapper.build(CONTIGS, encoder, index=index, **TILES) for index in (None, "exact"))
    assert isinstance(dense.candidates.index, Exact) and list(dense.align(reads)) == list(sparse.align(reads))
