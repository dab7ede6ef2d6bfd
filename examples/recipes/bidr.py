"""BiDR: product codes trained for ranking find candidates in memory, dense vectors on disk verify only these.

Xiao et al., Progressively Optimized Bi-Granular Document Representation (arXiv 2201.05409, WWW 2022), section 3.2, the
contrastive quantisation. Queries are the docstrings of the standard library, documents their functions' code (the first
200 characters), as vectors of a frozen MiniLM; whole modules are held out. A linear head to 128 dimensions trains with
the codes. Three arms of equal steps: OPQ after training ("post-hoc"), codes trained to reconstruct ("MSE"), codes
trained to rank ("contrastive"), with 8 and 16 numbers of 4 bits a document. "verified" scores the contrastive codes'
first 100 again by the frozen encoder's own vectors: its R@100 is the ceiling.

The rate of learning was chosen among two on modules of the training side, where it was better for all arms.
Where ours differs: a frozen encoder under a linear head, not two trained encoders; all other rows of a batch are the
negatives; the reconstruction term compares both sides rotated (their code compares one that is not, at weight 0).
The second stage, batches that walk between neighbours, has its own recipe (bidr_sampler.py).

    pip install coembed coembed-samples coembed-index 'coembed-bench[peers]'
    python examples/recipes/bidr.py [--quick] [--json]
"""

import functools
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import coembed
from coembed import Embedding
from coembed.index import open_index
from coembed.ranking import rank_scores
from coembed_bench.align_data import CODE, vectors
from coembed_bench.recipe import Claim, Recipe, main
from coembed_index.bidr import BiGranular, ContrastiveCode, fit_contrastive

SIZES, DEPTH, SPARSE = (8, 16), 100, 0.3
Figures = dict[str, float]


@functools.cache
def data(quick: bool) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Pairs of vectors to train on and held-out ones."""
    sides = []
    for records in coembed.load("samples/stdlib").split(0.25):
        sides.append(vectors([(r["text"], r["code"][:CODE]) for r in records][: 100 if quick else None]))
    return sides[0], sides[1]


def figures(scores: Tensor) -> Figures:
    found = rank_scores(scores, [[i] for i in range(len(scores))]).figures(ks=(1, 10, 100))
    return {name: found[name] for name in ("R@1", "R@10", "R@100")}


def by_codes(model: ContrastiveCode, queries: Tensor, documents: Tensor) -> Tensor:
    """Float queries against what the documents' codes stand for."""
    code = model.product
    with torch.no_grad():
        return code.rotated(model.query(queries)) @ code.decode(code.encode(model.document(documents))).T


def verified(rough: Tensor, dense: Tensor, sparse: float = 0.0) -> Tensor:
    """Dense scores of the best by codes; -inf, a miss, for all others."""
    best = rough.topk(min(DEPTH, rough.shape[1]), dim=1).indices
    values = (dense + sparse * rough).gather(1, best)
    return torch.full_like(rough, -torch.inf).scatter(1, best, values)


def run(seed: int, quick: bool) -> dict[str, Figures]:
    train, (queries, documents) = data(quick)
    alone, joint = (10, 10) if quick else (150, 250)
    fit = functools.partial(fit_contrastive, *train, out=128, codewords=16, seed=seed)
    dense = queries @ documents.T
    results = {"encoder, no head": figures(dense)}
    for size in SIZES:
        models = {
            "post-hoc": fit(subspaces=size, warmup=alone + joint, steps=0),
            "MSE": fit(subspaces=size, warmup=alone, steps=joint, loss="mse"),
            "contrastive": fit(subspaces=size, warmup=alone, steps=joint),
        }
        if size == SIZES[0]:
            with torch.no_grad():
                head = models["post-hoc"]
                results["head, no codes"] = figures(head.query(queries) @ head.document(documents).T)
        rough = {name: by_codes(model, queries, documents) for name, model in models.items()}
        results |= {f"{name} {size}x4": figures(scores) for name, scores in rough.items()}
        results[f"verified {size}x4"] = figures(verified(rough["contrastive"], dense))
        results[f"verified + sparse {size}x4"] = figures(verified(rough["contrastive"], dense, SPARSE))
    return results


def only_candidates_are_read_from_disk() -> None:
    x = torch.nn.functional.normalize(torch.randn(500, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    with tempfile.TemporaryDirectory() as folder:
        index = BiGranular(subspaces=8, codewords=16, rescore=10)
        index.add([str(i) for i in range(len(x))], Embedding.from_vectors(x))
        index.save(Path(folder) / "index")
        again = open_index(Path(folder) / "index")
        again.search(Embedding.from_vectors(x[:5]), k=4)
        assert isinstance(again, BiGranular) and again.read == 5 * 4 * 10, "read more than the candidates"


def two_stages_find_no_more_than_the_first() -> None:
    rough, dense = (torch.randn(50, 300, generator=torch.Generator().manual_seed(i)) for i in range(2))
    ceiling, found = figures(rough), figures(verified(rough, dense))
    assert found["R@100"] <= ceiling["R@100"] + 1e-12


recipe = Recipe(
    method="bidr",
    title="BiDR: contrastive product codes of docstrings and code, verified by dense vectors",
    run=run,
    invariants=[only_candidates_are_read_from_disk, two_stages_find_no_more_than_the_first],
    claims=[
        Claim("training to rank beats training to reconstruct", m, better=f"contrastive {size}x4", than=f"MSE {size}x4")
        for size in SIZES
        for m in ("R@10", "R@100")
    ]
    + [
        *(
            Claim("... and codes made afterwards", "R@10", better=f"contrastive {size}x4", than=f"post-hoc {size}x4")
            for size in SIZES
        ),
        Claim("dense vectors repair the order", "R@1", better="verified 8x4", than="contrastive 8x4"),
        Claim("the codes' score helps beside them", "R@1", better="verified + sparse 8x4", than="verified 8x4"),
    ],
)

if __name__ == "__main__":
    main(recipe)
