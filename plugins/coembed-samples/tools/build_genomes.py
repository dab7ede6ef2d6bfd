"""Build the carried genomes from Biopython's source archive and a Debian package, or check what is carried.

    pip download --no-binary :all: --no-deps biopython==1.88
    tar xzf biopython-1.88.tar.gz
    apt-get download bowtie2-examples
    dpkg -x bowtie2-examples_*.deb debian
    python tools/build_genomes.py biopython-1.88 debian            # writes coembed_samples/data/genomes
    python tools/build_genomes.py biopython-1.88 debian --check    # compares contents, writes nothing

Every coding region is read from its exons as the source will read it, compared with what Biopython extracts, and
translated. Needs Biopython and coembed-samples.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import SeqFeature

from coembed_samples.genomes import joined

CHLOROPLAST = ("NC_000932.1", 154_478, Path("Tests/GenBank/NC_000932.gb"))
LAMBDA = ("NC_001416.1", 48_502, Path("usr/share/doc/bowtie2/examples/reference/lambda_virus.fa.gz"))
TARGET = Path(__file__).resolve().parent.parent / "coembed_samples" / "data" / "genomes"


def region(feature: SeqFeature, sequence: Seq) -> dict[str, Any]:
    """What is carried of a coding region; ends the program if its DNA does not give its protein."""
    facts = {key: values[0] for key, values in feature.qualifiers.items()}
    exons = [[int(part.start), int(part.end), part.strand] for part in feature.location.parts]
    dna, protein = feature.extract(sequence), facts["translation"]
    exception = facts.get("exception") or ("trans-splicing" if "trans_splicing" in facts else "")
    # An edited start codon is none in the DNA: there all but the first residue is compared.
    edited = exception == "RNA editing"
    translated = "M" + str(dna.translate(11))[1:-1] if edited else str(dna.translate(11, cds=True))
    if joined(str(sequence), exons) != dna or translated != protein or facts["transl_table"] != "11":
        raise SystemExit(f"{facts['gene']} ({facts['protein_id']}): the DNA at {feature.location} is not its protein's")
    return {
        "id": facts["protein_id"],
        "locus": facts["locus_tag"],
        "gene": facts["gene"],
        "product": facts["product"],
        "exception": exception,
        "exons": exons,
        "protein": protein,
    }


def checked(sequence: str, accession: str, length: int, path: Path) -> str:
    """The sequence, if it has the length that it should and no other letters than ACGT."""
    if len(sequence) != length or set(sequence) != set("ACGT"):
        raise SystemExit(f"{path} holds {len(sequence)} letters; {accession} has {length}, all of ACGT")
    return sequence


def build(biopython: Path, debian: Path) -> dict[str, Any]:
    """The carried files, name to JSON value."""
    accession, length, place = CHLOROPLAST
    record = SeqIO.read(biopython / place, "genbank")
    if record.id != accession:
        raise SystemExit(f"{biopython / place} holds {record.id}, not {accession}")
    chloroplast = {
        "accession": accession,
        "sequence": checked(str(record.seq), accession, length, biopython / place),
        "regions": [region(feature, record.seq) for feature in record.features if feature.type == "CDS"],
    }
    accession, length, place = LAMBDA
    with gzip.open(debian / place, "rt") as file:
        phage = SeqIO.read(file, "fasta")
    if accession not in phage.id:
        raise SystemExit(f"{debian / place} holds {phage.id}, not {accession}")
    sequence = checked(str(phage.seq), accession, length, debian / place)
    return {"chloroplast.json.gz": chloroplast, "lambda.json.gz": {"accession": accession, "sequence": sequence}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("biopython", type=Path, help="Biopython's source archive, unpacked")
    parser.add_argument("debian", type=Path, help="Debian's bowtie2-examples, unpacked")
    parser.add_argument("--check", action="store_true", help="compare with the carried files and write nothing")
    options = parser.parse_args()
    built = build(options.biopython, options.debian)
    if options.check:
        carried = {path.name: json.loads(gzip.decompress(path.read_bytes())) for path in TARGET.glob("*.gz")}
        wrong = sorted(name for name in built.keys() | carried.keys() if built.get(name) != carried.get(name))
        sys.exit(f"not what the packages give: {', '.join(wrong)}" if wrong else 0)
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, value in built.items():
        # no time stamp: the same value always gives the same bytes
        data = gzip.compress(json.dumps(value, separators=(",", ":")).encode(), 9, mtime=0)
        (TARGET / name).write_bytes(data)
        print(f"{name:20} {len(data):8,} bytes")


if __name__ == "__main__":
    main()
