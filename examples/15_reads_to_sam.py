"""Reads to SAM: embed fragments of a genome, search them with reads, align the candidates.

The genome is phage lambda's; the reads are drawn from it with errors and from both strands, so that their places are
known. Spectra of k-mers are the vectors here; `Mapper.build(genome, space)` takes any space that you trained.

    pip install coembed 'coembed-dna[align]' coembed-samples
"""

from pathlib import Path

from coembed_dna.esa.mapper import Mapper
from coembed_dna.esa.output import sam
from coembed_dna.esa.reads import Read
from coembed_dna.fragments import FragmentReads
from coembed_samples.genomes import genome

reference = {"lambda": genome("lambda")}
noise = {"noisy": 1.0, "substitutions": (0.0, 0.05), "insertions": (0.0, 0.02), "deletions": (0.0, 0.02)}
drawn = list(FragmentReads(reference, 1000, fragment=(300, 300), read=(150, 150), **noise))
reads = [Read(record.id, record["read"]) for record in drawn]
print(f"1000 reads of 150 bases, up to 9% errors; one of them:\n  {reads[0].bases[:60]}... {drawn[0].extra}")

mapper = Mapper.build(reference, fragment=1250, step=1000)
print(f"{len(mapper.tiling.fragments)} fragments; every read of up to {mapper.tiling.covers} bases lies in one whole")

hits = list(mapper.align(reads, k=5))
right = sum(
    h.strand == r.extra["strand"] and abs(h.start - r.extra["start"]) <= 10 for h, r in zip(hits, drawn, strict=True)
)
print(f"\nright strand, within 10 bases: {right / 10:.1f}%; edits of the first five: {[h.edits for h in hits[:5]]}")

with Path("reads.sam").open("w", encoding="ascii") as file:
    file.writelines(f"{line}\n" for line in sam(hits, mapper.reference))
print("reads.sam:")
for line in Path("reads.sam").read_text("ascii").splitlines()[1:6]:
    print("  " + "  ".join(line.split("\t")[:6]))
