"""DECOR: what an undesired word spans is projected out of a query, so that "sea and boat" becomes "sea, but no boat".

DECOR (arXiv 2412.09169) takes P = V Vᵀ of the right singular vectors of undesired token embeddings away from the token
embeddings of a prompt, X' = X - alpha X P, to customise pictures. There is no diffusion here: the same projection is
measured as a negation in retrieval, where the paper makes no claim. The queries are "A and B" for two concepts that
emoji are tagged with, documents the names of emoji (without their tags), and B is projected out. Right is what is
tagged A and not B. Both forms are shown: of the one pooled vector, and of the matrix of tokens under MaxSim, which is
what the paper projects. Vectors get their length back afterwards. Nothing trains.

Controls: alpha 0 (the query as it was), and a random subspace of equal rank. Beside them stand plain subtraction of B's
vector, and the query A alone, which is what a perfect negation would ask. A seed draws the pairs of concepts and the
random subspaces.

    pip install coembed coembed-text coembed-samples coembed-retrieval
    python examples/recipes/decor.py [--quick] [--json]
"""

import functools
import random
from dataclasses import dataclass

import torch

import coembed
from coembed import Embedding, Space, Tower, similarity
from coembed_bench.recipe import Claim, Recipe, main
from coembed_retrieval import Subspace, project_out

TOP = 10
PAIRS, QUICK_PAIRS, QUICK_EVERY = 150, 12, 4


@dataclass(frozen=True)
class Collection:
    """Documents, which of them carry a concept, and their vectors: one each, and one a token."""

    tags: dict[str, torch.Tensor]  # concept -> [N] bool
    pooled: Embedding
    tokens: Embedding


@functools.cache
def spaces() -> dict[str, Space]:
    """One frozen MiniLM, read once as a vector a text and once as a vector a token."""
    reader = coembed.load("text/minilm")
    pools = {"pooled": "native", "tokens": "none"}
    return {name: Space({"text": Tower(reader, "identity", pool=pool)}) for name, pool in pools.items()}


def encode(form: str, texts: list[str]) -> Embedding:
    return spaces()[form].encode("text", texts, batch_size=64)


@functools.cache
def collection(quick: bool) -> Collection:
    """Names of emoji; concepts are the tags that 12 to 80 of them carry and that are words of their own."""
    names, tagged = [], []
    for record in list(coembed.load("samples/emoji"))[:: QUICK_EVERY if quick else 1]:
        name, _, tags = record["text"].rpartition(": ")
        if not name.startswith(("flag", "keycap")):
            names.append(name)
            tagged.append(set(tags.split(", ")))
    most = {tag for tags in tagged for tag in tags if tag.isalpha() and len(tag) > 3}
    least = 4 if quick else 12
    marks = {tag: torch.tensor([tag in tags for tags in tagged]) for tag in sorted(most)}
    marks = {tag: mark for tag, mark in marks.items() if least <= int(mark.sum()) <= 80}
    return Collection(marks, encode("pooled", names), encode("tokens", names))


def pairs(found: Collection, count: int, seed: int) -> list[tuple[str, str]]:
    """Concepts A and B of which few documents have both: else there is nothing to tell apart."""
    drawn, rng, names = [], random.Random(seed), list(found.tags)
    while len(drawn) < count:
        a, b = rng.sample(names, 2)
        both = int((found.tags[a] & found.tags[b]).sum())
        if 5 * both <= min(int(found.tags[a].sum()), int(found.tags[b].sum())):
            drawn.append((a, b))
    return drawn


def ask(form: str, a: str, b: str, seed: int) -> dict[str, Embedding]:
    """The query "A and B" in every arm."""
    both, alone, undesired = (encode(form, [text]) for text in (f"{a} and {b}", a, b))
    chance = Subspace.random(both.dim, Subspace.of(undesired).rank, seed)
    arms = {
        "as asked": project_out(both, undesired, alpha=0.0),
        "random": chance.remove(both),
        "projected": project_out(both, undesired),
        "A alone": alone,
    }
    if form == "pooled":
        arms["subtracted"] = Embedding.from_vectors(both.vectors - undesired.vectors).normalize()
    return arms


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Of the first ten: how many are A and not B, and how many are B."""
    found = collection(quick)
    figures: dict[str, dict[str, list[float]]] = {}
    for number, (a, b) in enumerate(pairs(found, QUICK_PAIRS if quick else PAIRS, seed)):
        kept, unwanted = found.tags[a] & ~found.tags[b], found.tags[b]
        for form, documents in (("pooled", found.pooled), ("tokens", found.tokens)):
            for arm, query in ask(form, a, b, 1000 * seed + number).items():
                best = similarity(query, documents)[0].topk(TOP).indices
                row = figures.setdefault(f"{form}: {arm}", {"kept@10": [], "undesired@10": []})
                row["kept@10"].append(kept[best].float().mean().item())
                row["undesired@10"].append(unwanted[best].float().mean().item())
    return {arm: {name: sum(each) / len(each) for name, each in row.items()} for arm, row in figures.items()}


def the_projection_is_symmetric_and_its_own_square() -> None:
    p = Subspace.of(encode("tokens", ["a boat", "ships"])).projection
    assert torch.allclose(p, p.T, atol=1e-12) and torch.allclose(p @ p, p, atol=1e-12)


def nothing_of_the_undesired_is_left() -> None:
    undesired, query = encode("tokens", ["a boat"]), encode("tokens", ["the sea and a boat"])
    left = project_out(query, undesired)
    assert (left.values[left.mask] @ undesired.values[undesired.mask].T).abs().max() < 1e-5
    assert torch.equal(project_out(undesired, undesired).values, torch.zeros_like(undesired.values))


def alpha_zero_changes_nothing() -> None:
    query = encode("pooled", ["the sea and a boat"])
    assert torch.equal(project_out(query, encode("pooled", ["a boat"]), alpha=0.0).values, query.values)


def what_is_orthogonal_stays() -> None:
    undesired = encode("tokens", ["a boat"])
    query = project_out(encode("tokens", ["the sea"]), undesired)
    assert torch.allclose(project_out(query, undesired).values, query.values, atol=1e-6)


def repeated_rows_add_no_direction() -> None:
    once, twice = encode("tokens", ["a boat"]), encode("tokens", ["a boat", "a boat"])
    assert Subspace.of(once).rank == Subspace.of(twice).rank == int(once.mask.sum())


CLAIMS = [
    Claim(f"{form}: {what}", metric, f"{form}: projected", f"{form}: {arm}", higher=metric == "kept@10")
    for form in ("pooled", "tokens")
    for what, metric, arm in (
        ("more of the kept concept than alpha 0", "kept@10", "as asked"),
        ("more of the kept concept than a random subspace", "kept@10", "random"),
        ("less of the undesired than a random subspace", "undesired@10", "random"),
    )
]
recipe = Recipe(
    method="decor",
    title="DECOR: an undesired concept is projected out of a query of two",
    run=run,
    claims=[*CLAIMS, Claim("projecting beats subtracting", "kept@10", "pooled: projected", "pooled: subtracted")],
    invariants=[
        the_projection_is_symmetric_and_its_own_square,
        nothing_of_the_undesired_is_left,
        alpha_zero_changes_nothing,
        what_is_orthogonal_stays,
        repeated_rows_add_no_direction,
    ],
)

if __name__ == "__main__":
    main(recipe)
