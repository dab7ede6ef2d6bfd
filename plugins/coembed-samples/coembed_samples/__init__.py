"""coembed-samples: small real data to try coembed on: carried, built where it runs, or fetched by a command."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import Spec, hookimpl


@hookimpl
def coembed_sources() -> Iterator[Spec]:
    """The sources of this package, one module each."""
    yield Spec(
        name="samples/emoji",
        target="coembed_samples.emoji:Emoji",
        summary="1,911 emoji pictures (32 px) with labels and tags in ten languages.",
        license="Apache-2.0 AND MIT AND Unicode-3.0",
    )
    yield Spec(
        name="samples/stdlib",
        target="coembed_samples.stdlib:Stdlib",
        summary="Docstrings and functions of the running Python's standard library, 3,400 to 4,000 pairs.",
        license="PSF-2.0",
    )
    yield Spec(
        name="samples/sounds",
        target="coembed_samples.sounds:Sounds",
        summary="130 short sounds (16 kHz, a second at most) with their names, in 12 families.",
        license="CC0-1.0",
        extra="sounds",
    )
    yield Spec(
        name="samples/chloroplast",
        target="coembed_samples.genomes:Chloroplast",
        summary="The 85 coding regions of the Arabidopsis chloroplast as DNA, protein and product name.",
        license="LicenseRef-public-record",
    )
    yield Spec(
        name="samples/lambda",
        target="coembed_samples.genomes:Lambda",
        summary="The genome of phage lambda, 48,502 bp, in windows of DNA.",
        license="LicenseRef-public-record",
    )
    # What follows is read from sets that `coembed-samples fetch` brings.
    yield Spec(
        name="samples/proteins",
        target="coembed_samples.proteins:Proteins",
        summary="10,872 bacterial proteins with product names; fetched.",
        license="LicenseRef-unclear-benchmark-use",
    )
    yield Spec(
        name="samples/triples",
        target="coembed_samples.triples:Triples",
        summary="Genes of E. coli MG1655 as DNA, protein and product name; fetched.",
        license="LicenseRef-unclear-benchmark-use",
    )
    yield Spec(
        name="samples/wordnet",
        target="coembed_samples.wordnet:WordNet",
        summary="Neighbourhoods of WordNet's synsets with glosses, their own words hidden; fetched.",
        license="LicenseRef-WordNet-3.0",
    )
    yield Spec(
        name="samples/instruments",
        target="coembed_samples.instruments:Instruments",
        summary="890 notes and strokes of instruments with names; fetched.",
        license="MIT",
    )
    yield Spec(
        name="samples/icons",
        target="coembed_samples.icons:Icons",
        summary="3,330 icons with search terms, drawn from SVG; fetched.",
        license="ISC AND MIT AND CC-BY-4.0",
        extra="icons",
    )
