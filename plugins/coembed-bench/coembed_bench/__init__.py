"""coembed-bench: benchmarks beside peers, run by the command `coembed-bench`."""

from __future__ import annotations

# bench name -> (module with `run(quick) -> Report`, what it measures): read by the command without importing a bench
BENCHES: dict[str, tuple[str, str]] = {
    "startup": ("coembed_bench.startup", "CPU time of the imports and commands that a user waits for"),
    "encode": ("coembed_bench.encode", "texts to vectors with MiniLM's weights, beside sentence-transformers"),
    "loss": ("coembed_bench.loss", "InfoNCE forward and backward, beside open_clip's and sentence-transformers'"),
    "align": ("coembed_bench.align", "heads of two frozen towers on a million cached pairs, beside a peer"),
    "memory": ("coembed_bench.memory", "memory of training towers at growing batches, with micro-batches and without"),
    "search": ("coembed_bench.search", "exact search in real vectors, beside faiss, usearch and sentence-transformers"),
    "index": ("coembed_bench.index_family", "every index: recall, bytes and speed, beside faiss and usearch directly"),
    "dna": ("coembed_bench.dna", "reads on a genome by their vectors, beside bowtie2, bwa mem and minimap2"),
    "binding": ("coembed_bench.binding", "six towers in one space from fetched sets: trained and emergent directions"),
    "recipes": ("coembed_bench.recipes", "the recipes of published methods: with and without, verdict by verdict"),
}
