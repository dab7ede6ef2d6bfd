"""ColBERT-PRF: the rare directions of the first hits' tokens join the query, and it is searched again.

Wang et al., Pseudo-Relevance Feedback for Multiple Representation Dense Retrieval (arXiv 2106.11251, ICTIR 2021),
section 3. Documents are the first paragraphs of the standard library's docstrings, a vector a token; a query is the
first six words of one that is not among them, and right is every document of the same module, so that there is much to
find. The token vectors are a frozen MiniLM's, brought to 128 dimensions by principal components, as ColBERT's width is.

Settings are the paper's: 3 feedback documents, 24 centroids, 10 kept, beta 0.5 or 1; none was tuned. Controls: the ten
centroids that are least rare, and feedback from three documents drawn at random. Where ours differs: the encoder was
not trained for late interaction; a "token", of which the rarity is counted, is a cell of a codebook of 512 centres
over the documents' own token vectors, by the 8 nearest; the search of candidates is exact; lists end after 200.

    pip install coembed coembed-text coembed-samples coembed-index 'coembed-bench[peers]'
    python examples/recipes/colbert_prf.py [--quick] [--json]
"""

import functools
import random
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

import coembed
from coembed import CoembedWarning, Embedding, Space, Tower
from coembed.index import Hit
from coembed.ranking import rank_scores
from coembed_bench.align_data import WEIGHTS
from coembed_bench.recipe import Claim, Recipe, main
from coembed_index.prf import PRF, Feedback, expand, weigh

DIM, WORDS, ASKED, LEAST, CUT = 128, 40, 6, 6, 200
SETTINGS, CELLS = PRF(beta=0.5), 512


@dataclass(frozen=True)
class Corpus:
    """Texts and their modules; `encode` gives token vectors of texts."""

    texts: list[str]
    modules: list[str]
    tokens: list[Tensor]  # [T, DIM] each
    space: Space
    components: Tensor

    def encode(self, texts: list[str]) -> Embedding:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoembedWarning)
            found = self.space.encode("text", texts, batch_size=64)
        return Embedding(found.values.float() @ self.components, found.mask).normalize()


@functools.cache
def corpus(quick: bool) -> Corpus:
    reader = coembed.load("text/hf", model=f"package:{WEIGHTS}").to(torch.bfloat16)
    space = Space({"text": Tower(reader, "identity", pool="none")})
    records = list(coembed.load("samples/stdlib"))[: 300 if quick else None]
    texts = [" ".join(record["text"].split()[:WORDS]) for record in records]
    raw = Corpus(texts, [], [], space, torch.eye(reader.dim))
    sample = raw.encode(texts[::4])
    vectors = sample.values[sample.mask]
    components = torch.linalg.svd(vectors, full_matrices=False).Vh[:DIM].T
    made = Corpus(texts, [record.id.partition(":")[0] for record in records], [], space, components)
    for start in range(0, len(texts), 256):
        part = made.encode(texts[start : start + 256])
        made.tokens.extend(part.values[i][part.mask[i]] for i in range(len(part)))
    return made


def padded(rows: list[Tensor]) -> Embedding:
    mask = torch.arange(max(map(len, rows))) < torch.tensor([[len(row)] for row in rows])
    return Embedding(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), mask)


def filled(found: Corpus, rows: list[int]) -> Feedback:
    index = Feedback(codebook=CELLS)
    for start in range(0, len(rows), 256):
        some = rows[start : start + 256]
        index.add([str(at) for at in some], padded([found.tokens[at] for at in some]))
    return index


def draw(found: Corpus, count: int, seed: int) -> list[int]:
    """Texts to ask with, of modules that have enough others to find."""
    counts = {module: found.modules.count(module) for module in set(found.modules)}
    fit = [
        at
        for at, (module, text) in enumerate(zip(found.modules, found.texts, strict=True))
        if counts[module] > LEAST and len(text.split()) > ASKED
    ]
    return random.Random(seed).sample(fit, count)


def figures(hits: list[list[Hit]], rows: list[int], right: list[list[int]]) -> dict[str, float]:
    place, scores = {str(at): i for i, at in enumerate(rows)}, torch.full((len(hits), len(rows)), -torch.inf)
    for row, found in zip(scores, hits, strict=True):
        row[[place[hit.id] for hit in found]] = torch.tensor([hit.score for hit in found])
    ranking = rank_scores(scores, right)
    named = {"MAP": ranking.average_precision(), "nDCG@10": ranking.ndcg(10), f"recall@{CUT}": ranking.recall(CUT)}
    return {name: values.mean().item() for name, values in named.items()}


def controlled(index: Feedback, q: Embedding, seed: int, how: str) -> list[list[Hit]]:
    """The same expansion, but with the least rare centroids, or from documents that were not found."""
    expanded, rng, ids = [], random.Random(seed), list(index.ids)
    for at, hits in enumerate(index.search(q, SETTINGS.fb_docs)):
        names = rng.sample(ids, SETTINGS.fb_docs) if how == "random feedback" else [hit.id for hit in hits]
        found = index.vectors(names)
        centres, idf = weigh(found.values[found.mask], index.tokens(), SETTINGS)
        kept = slice(-SETTINGS.fb_embs, None) if how == "least rare" else slice(SETTINGS.fb_embs)
        expanded.append(expand(q[at : at + 1], centres[kept], SETTINGS.beta * idf[kept]))
    return index.search(Embedding.cat(expanded), CUT)


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    found = corpus(quick)
    asked = draw(found, 8 if quick else 60, seed)
    rows = [at for at in range(len(found.texts)) if at not in set(asked)]
    index = filled(found, rows)
    q = found.encode([" ".join(found.texts[at].split()[:ASKED]) for at in asked])
    right = [[i for i, row in enumerate(rows) if found.modules[row] == found.modules[at]] for at in asked]
    hits = {
        "first pass": index.search(q, CUT),
        "ranker 0.5": index.search(q, CUT, prf=SETTINGS),
        "ranker 1": index.search(q, CUT, prf=PRF(beta=1.0)),
        "reranker 0.5": index.search(q, CUT, prf=PRF(beta=0.5, mode="reranker", depth=CUT)),
        "least rare": controlled(index, q, seed, "least rare"),
        "random feedback": controlled(index, q, seed, "random feedback"),
    }
    return {arm: figures(each, rows, right) for arm, each in hits.items()}


def toy() -> tuple[Feedback, Embedding]:
    draw = torch.Generator().manual_seed(0)
    values, lengths = torch.randn(60, 5, 16, generator=draw), torch.randint(1, 6, (60, 1), generator=draw)
    x = Embedding(values, torch.arange(5) < lengths).normalize()
    index = Feedback(codebook=16)
    index.add([str(i) for i in range(60)], x)
    return index, x[:5]


def without_weight_nothing_changes() -> None:
    index, q = toy()
    assert index.search(q, 60, prf=PRF(beta=0)) == index.search(q, 60) == index.search(q, 60, prf=PRF(fb_embs=0))


def the_reranker_finds_nothing_new() -> None:
    index, q = toy()
    first = index.search(q, 10)
    again = index.search(q, 10, prf=PRF(beta=3.0, mode="reranker", depth=10))
    assert all({h.id for h in a} == {h.id for h in b} for a, b in zip(first, again, strict=True))


recipe = Recipe(
    method="colbert-prf",
    title="ColBERT-PRF: rare directions of the first hits join the query",
    run=run,
    invariants=[without_weight_nothing_changes, the_reranker_finds_nothing_new],
    claims=[
        Claim("feedback finds more", "MAP", better="ranker 0.5", than="first pass"),
        Claim("... at full weight too", "MAP", better="ranker 1", than="first pass"),
        Claim("... already among the first hits", "MAP", better="reranker 0.5", than="first pass"),
        Claim("it is the rare directions that help", "MAP", better="ranker 0.5", than="least rare"),
        Claim("it is the first hits that help", "MAP", better="ranker 0.5", than="random feedback"),
        Claim("common directions hurt", "MAP", better="first pass", than="least rare"),
        Claim("random feedback hurts", "MAP", better="first pass", than="random feedback"),
    ],
)

if __name__ == "__main__":
    main(recipe)
