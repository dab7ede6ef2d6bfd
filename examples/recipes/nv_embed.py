"""NV-Embed: latent attention over tokens, instructions that are read but not pooled, and two stages of training.

Lee et al. 2024, NV-Embed (arXiv 2405.17428, ICLR 2025): section 3.1 (latent attention; residuals and norms as in the
released model), 3.2 (two stages: retrieval with in-batch negatives, then a mix of tasks with each row's own hard
negatives alone), and the positive-aware miner. There a language model of 7 billion weights is tuned; here a small
two-layer encoder, which looks both ways as theirs does after tuning, starts from random weights.

Two tasks on emoji: find the name of what a list of tags describes, and find names of the same kind (Unicode subgroup;
the positive is an example of it, not its label). The queries are the same, so the instruction has to tell. Hard
negatives are mined by TF-IDF among training names, those that score 95% of the partner or more left out. Held out are
families of emoji; names are searched among all held-out names, other flags than kinds of objects left out.

`mean + mlp` is a control with as many parameters as latent attention. The planted near-duplicates are the miner's test.

    pip install coembed coembed-heads coembed-text coembed-samples coembed-bench
    python examples/recipes/nv_embed.py [--quick] [--json]
"""

import random
import warnings
from collections import defaultdict
from functools import cache

import torch

import coembed
from coembed import Record, Records, Space, Tower
from coembed.embedding import Embedding
from coembed.objectives import InfoNCE, Pairs
from coembed.ranking import rank_scores
from coembed.tasks import Contrast
from coembed.training.mining import Mined, Miner, mine
from coembed.training.stages import Stage
from coembed_bench.recipe import Claim, Recipe, main
from coembed_heads.latent import LatentAttention
from coembed_samples.emoji import Emoji

warnings.simplefilter("ignore", coembed.CoembedWarning)  # some rows have fewer hard negatives than asked

DIM, LATENTS = 64, 32
PROMPTS = {"name": "Instruct: give its name\nQuery: ", "kind": "Instruct: give others of its kind\nQuery: "}
LATENT = ("heads/latent-attention", {"latents": LATENTS, "heads": 4, "ff": 2})
ARMS = {  # head, whether the instruction is pooled (None: there is none), in-batch negatives in the second stage
    "mean": (("linear", {"pool": "mean"}), False, False),
    "mean + mlp": (("mlp", {"pool": "mean", "hidden": 350}), False, False),
    "latent": (LATENT, False, False),
    "instruction pooled": (LATENT, True, False),
    "no instruction": (LATENT, None, False),
    "in-batch to the end": (LATENT, False, True),
}


@cache
def emoji(seed: int, quick: bool = False) -> tuple[Records, Records]:
    """Tags as queries, names as documents, for training and held out."""
    records = []
    for record in Emoji():
        name, _, tags = record["text"].partition(": ")
        if tags and record.label != "country-flag":  # 259 names that differ in the country alone
            items = {"query": tags.replace(",", ""), "document": name}
            records.append(Record(items, id=record.id, group=record.group, label=record.label))
    return Records(records[::8] if quick else records).split(0.2, seed=seed)


def kinds(train: Records, seed: int) -> Records:
    """The second task: the same queries, and as partner the name of another emoji of the same kind."""
    names, draw = defaultdict(list), random.Random(seed)
    for record in train:
        names[record.label].append(record)
    rows = []
    for record in train:
        others = [other for other in names[record.label] if other.group != record.group]
        if others:
            items = {"query": record["query"], "document": draw.choice(others)["document"]}
            rows.append(Record(items, id=record.id, group=record.group, label=record.label))
    return Records(rows)


def mined(source: Records, same: str, **rule: float | None) -> Mined:
    """Seven hard negatives a row, three of them a step, found by TF-IDF: another model mines than trains, as there."""
    words = coembed.load("text/tfidf")
    space = Space({"query": words, "document": words})
    return mine(space, source, "query", "document", Miner(k=7, draw=3, depth=50, same=same, **rule))


def build(arm: str, seed: int, quick: bool = True) -> Space:
    """One encoder and one head under two names: queries and documents go the same way."""
    (head, options), pooled, _ = ARMS[arm]
    encoder = coembed.load("text/transformer", tokenizer="words:4000", dim=DIM, layers=2, heads=4, max_length=96,
                           dropout=0.0, pool_prompt=bool(pooled), seed=seed)  # fmt: skip
    encoder.fit_tokenizer(
        [text for record in emoji(seed, quick)[0] for text in record.items.values()] + [*PROMPTS.values()]
    )
    encoder.prompts = dict.fromkeys(PROMPTS, "") if pooled is None else dict(PROMPTS)
    tower = Tower(encoder, head, dim=DIM, train="all", options=options, seed=seed)
    return Space({"query": tower, "document": tower})


def train(
    space: Space, arm: str, steps: int, seed: int, sources: tuple[Records, Records], negatives: tuple[Mined, Mined]
) -> None:
    """Names with in-batch and hard negatives; then names and kinds with a row's own hard negatives."""
    first, second = sources
    pair, loss = ("query", "document"), InfoNCE(0.05, directions="a->b")
    name = Contrast(first, pair, loss, same="content", roles={"query": "name"}, negatives=negatives[0])
    kind = Contrast(second, pair, loss, same="label", roles={"query": "kind"}, negatives=negatives[1])
    stages = [
        Stage(steps=steps, tasks=[name]),
        Stage(steps=steps, tasks=[name, kind], in_batch=ARMS[arm][2], mixing=1e9),
    ]
    coembed.fit(space, stages=stages, batch_size=32, lr=2e-3, seed=seed, cache=False)


def figures(space: Space, held: Records) -> dict[str, float]:
    """Names found among all held-out names; and others of the kind, one's own name left out."""
    tags, names = ([record[side] for record in held] for side in ("query", "document"))
    documents = space.encode("document", names).vectors
    by_name, by_kind = (space.encode("query", tags, role=role).vectors @ documents.T for role in PROMPTS)
    own = torch.eye(len(held), dtype=torch.bool)
    labels = [record.label for record in held]
    alike = torch.tensor([[a == b for b in labels] for a in labels]) & ~own
    some = alike.any(1)
    named = rank_scores(by_name, own)
    kind = rank_scores(by_kind.masked_fill(own, -torch.inf)[some], alike[some])
    return {
        "name R@1": named.hit(1).mean().item(),
        "name nDCG@10": named.ndcg(10).mean().item(),
        "kind MAP": kind.average_precision().mean().item(),
    }


def near_duplicates(seed: int) -> dict[str, dict[str, float]]:
    """Names planted again, written in another way: the share of them that a miner takes for negatives."""
    rows = list(emoji(seed)[0])[:300]
    plants = [Record({"document": f"{r['document'].upper()}!"}, id=f"plant-{r.id}") for r in rows]
    found = {}
    for arm, ratio in (("miner: nearest", None), ("miner: below 95%", 0.95)):
        ids = mined(Records([*rows, *plants]), "id", ratio=ratio).ids
        taken = [f"plant-{row.id}" in ids.get(row.id, ()) for row in rows]
        found[arm] = {"near-duplicates mined": sum(taken) / len(taken)}
    return found


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    steps = 4 if quick else 80
    first, held = emoji(seed, quick)
    second = kinds(first, seed)
    # A partner of the same kind shares no words with the tags, so that TF-IDF's score for it bounds nothing.
    negatives = mined(first, "content"), mined(second, "label", ratio=None)
    found = {}
    for arm in ARMS:
        space = build(arm, seed, quick)
        if arm == "mean":
            found["untrained"] = figures(space, held)
        train(space, arm, steps, seed, (first, second), negatives)
        found[arm] = figures(space, held)
    words = coembed.load("text/tfidf")
    words.prompts = dict.fromkeys(PROMPTS, "")
    found["tf-idf"] = figures(Space({"query": words, "document": words}), held)
    return {**found, **near_duplicates(seed)}


def without_output_maps_it_is_the_mean() -> None:
    x = Embedding(torch.randn(3, 5, 8), torch.arange(5) < torch.tensor([[5], [2], [1]]))
    head = LatentAttention(8, 8, latents=4, heads=2)
    with torch.no_grad():
        for tensor in (head.output.weight, head.down.weight, head.down.bias):
            tensor.zero_()
    assert torch.equal(head(x).values, x.pool("mean").normalize().values)
    assert torch.allclose(head.weights(x).sum(-1), torch.ones(3, 2, 5))


def an_instruction_is_read_and_not_pooled() -> None:
    space = build("latent", 0)
    tower = space["query"]
    states = tower.encoder(tower.encoder.collate(["a red heart"], PROMPTS["name"]))
    wild = Embedding(states.values.masked_fill(~states.mask[..., None], 7.0), states.mask)
    assert not states.mask.all() and torch.equal(tower.align(wild).values, tower.align(states).values)
    one, two = (space.encode("query", ["a red heart"], role=role).values for role in PROMPTS)
    assert (one - two).abs().max() > 1e-4


def the_first_token_sees_the_last() -> None:
    encoder = build("latent", 0)["query"].encoder
    one, two = (encoder(encoder.collate([text])).values[0, 0] for text in ("a red heart", "a red house"))
    assert (one - two).abs().max() > 1e-5


def a_row_alone_is_a_row_in_a_batch() -> None:
    space, texts = build("latent", 0), ["a", "a much longer list of tags", "red, heart"]
    alone = torch.cat([space.encode("query", [text], role="name").values for text in texts])
    assert torch.allclose(alone, space.encode("query", texts, role="name").values, atol=1e-6)


def without_in_batch_negatives_other_partners_have_no_gradient() -> None:
    a, b, hard = (torch.nn.functional.normalize(torch.randn(n, 8), dim=-1) for n in (4, 4, 8))
    b.requires_grad_()
    mask = torch.ones(4, 12, dtype=torch.bool)  # True is not a negative: a row's own two are
    mask[torch.arange(4).repeat_interleave(2), 4 + torch.arange(8)] = False
    pairs = Pairs.of(*map(Embedding.from_vectors, (a, b)), mask=mask, negatives=Embedding.from_vectors(hard))
    InfoNCE(directions="a->b").rows(pairs)[0].backward()
    assert b.grad[0].abs().sum() > 0 and b.grad[1:].abs().sum() == 0


recipe = Recipe(
    method="nv-embed",
    title="NV-Embed: latent attention, instructions and two stages, on names and kinds of emoji",
    run=run,
    claims=[
        Claim("latent attention beats the mean", "name nDCG@10", better="latent", than="mean"),
        Claim("latent attention beats the mean", "kind MAP", better="latent", than="mean"),
        Claim("it beats as many parameters after the mean", "name nDCG@10", better="latent", than="mean + mlp"),
        Claim("an instruction helps", "kind MAP", better="latent", than="no instruction"),
        Claim("an instruction helps", "name nDCG@10", better="latent", than="no instruction"),
        Claim("it is better not pooled", "name nDCG@10", better="latent", than="instruction pooled"),
        Claim("no in-batch negatives in stage two", "kind MAP", better="latent", than="in-batch to the end"),
        Claim("the positive-aware miner leaves near-duplicates", "near-duplicates mined", better="miner: below 95%",
              than="miner: nearest", higher=False),
    ],
    invariants=[without_output_maps_it_is_the_mean, an_instruction_is_read_and_not_pooled,
                the_first_token_sees_the_last, a_row_alone_is_a_row_in_a_batch,
                without_in_batch_negatives_other_partners_have_no_gradient],
)  # fmt: skip

if __name__ == "__main__":
    main(recipe)
