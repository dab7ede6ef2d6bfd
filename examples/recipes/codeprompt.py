"""CodePrompt: code is classified by the mask token of a prompt, its states of every layer combined by attention.

CodePrompt (arXiv 2401.05544; as CodeClassPrompt in Scientific Reports 14:20220, 2024). Here: which package of the
standard library a function comes from, its own name hidden, on modules that training never saw. One small encoder is
pretrained to fill masks in code (`pretrain/smae` without its decoder); each arm then trains the same copy of it for the
same steps with a linear classifier.

Arms: `[CLS]` and `mean` read the code alone; `mask, last layer` and `mask, all layers` read it in the template "{x}
# This is from the package {mask}."; `mask, not pretrained` is the last one on random weights, where no effect is
expected; `tf-idf` is a linear classifier on counted words.

The paper's attention formula and templates could not be retrieved: additive attention over layers at equal lengths
stands in (a reconstruction). The encoder is three layers of width 64, where the paper has CodeBERT.

    pip install coembed coembed-code coembed-heads coembed-pretrain coembed-text coembed-samples coembed-bench
    python examples/recipes/codeprompt.py [--quick] [--json]
"""

import copy
import hashlib
import warnings
from collections import Counter, defaultdict
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

import coembed
from coembed import Encoder, Space, Tower
from coembed.embedding import Embedding
from coembed.sources import Record, Records
from coembed_bench.recipe import Claim, Recipe, main
from coembed_heads.layers import PromptMask
from coembed_pretrain.smae import SMAE
from coembed_samples.stdlib import Stdlib

warnings.simplefilter("ignore", coembed.CoembedWarning)  # two of three functions are cut to 64 tokens, for speed

LAYERS, DIM = 3, 64
TEMPLATE = "{x}\n# This is from the package {mask}."
ARMS = {  # template or not, layers, head
    "[CLS]": (False, "", ("linear", {"pool": "first"})),
    "mean": (False, "", ("linear", {"pool": "mean"})),
    "mask, last layer": (True, "last", ("heads/prompt-mask", {"pool": "none"})),
    "mask, all layers": (True, "all", ("heads/prompt-mask", {"pool": "none"})),
    "mask, not pretrained": (True, "all", ("heads/prompt-mask", {"pool": "none"})),
}


@cache
def functions() -> dict[str, list[Record]]:
    """Functions by package, for packages of eight modules or more, so that whole modules can be held out."""
    found = defaultdict(list)
    for record in Stdlib(name="hidden"):
        found[record.group].append(record)
    modules = {name: {r.id.partition(":")[0] for r in records} for name, records in found.items()}
    return {name: records for name, records in found.items() if len(modules[name]) >= 8 and len(records) >= 60}


def split(seed: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Code and class, for training and held out: about a third of each package's modules."""
    train, held = [], []
    for label, records in enumerate(functions().values()):
        for record in records:
            module = record.id.partition(":")[0]
            share = hashlib.blake2b(f"{seed}:{module}".encode(), digest_size=2).digest()[0] / 256
            (held if share < 1 / 3 else train).append((record["code"], label))
    return train, held


@cache
def pretrained(seed: int, quick: bool) -> tuple[Encoder, Encoder]:
    """The encoder before and after it learned to fill masks, in the code of training modules and other packages."""
    unseen = {code for code, _ in split(seed)[1]}
    corpus = [record["code"] for record in Stdlib(name="hidden") if record["code"] not in unseen]
    encoder = coembed.load(
        "code/transformer", vocab_size=2000, dim=DIM, layers=LAYERS, heads=4, max_length=64, dropout=0.0, seed=seed
    )
    encoder.fit_tokenizer(corpus)
    before = copy.deepcopy(encoder)
    space = Space({"code": Tower(encoder, "identity", train="all")})
    steps = 5 if quick else 200
    task = SMAE(Records.pairs(code=corpus), "code", [(LAYERS, DIM)], encoder_mask=0.15, decode=False)
    coembed.fit(space, tasks=[task], steps=steps, batch_size=32, lr=2e-3, seed=seed, cache=False)
    return before, encoder


def tower(arm: str, seed: int, quick: bool) -> Tower:
    """A fresh copy of the encoder with the arm's way to one vector, all of it trained."""
    prompted, layers, (name, options) = ARMS[arm]
    encoder = copy.deepcopy(pretrained(seed, quick)[arm != "mask, not pretrained"])
    torch.manual_seed(seed)
    if prompted:
        encoder = coembed.load("heads/cloze", encoder=encoder, template=TEMPLATE, layers=layers)
    return Tower(encoder, name, dim=DIM, train="all", options=options)


def classify(part: Tower, train: list, held: list, steps: int, seed: int) -> dict[str, float]:
    """Train tower and classifier by cross-entropy; the share of held-out functions that it places."""
    classifier = nn.Linear(part.dim, 1 + max(label for _, label in train))
    labels = torch.tensor([label for _, label in train])
    weights = 1 / labels.bincount()[labels].double()  # packages alike: the largest is six times the least
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW([*part.parameters(), *classifier.parameters()], lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1, 10 * (s + 1) / steps) * (1 - s / steps))
    part.train()
    for _ in range(steps):
        at = torch.multinomial(weights, 32, generator=draw)
        vectors = part(part.encoder.collate([train[i][0] for i in at.tolist()])).vectors
        loss = F.cross_entropy(16 * classifier(vectors), labels[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    part.eval()
    with torch.inference_mode():
        guesses = classifier(part.encode([code for code, _ in held]).vectors).argmax(1)
    return scores(guesses, held)


def scores(guesses: torch.Tensor, held: list) -> dict[str, float]:
    truth = torch.tensor([label for _, label in held])
    right = (guesses == truth).double()
    each = [right[truth == label].mean() for label in truth.unique()]
    return {"accuracy": right.mean().item(), "mean of packages": torch.stack(each).mean().item()}


def counted(train: list, held: list) -> dict[str, float]:
    """The lexical baseline: cross-entropy on TF-IDF, to convergence."""
    words = coembed.load("text/tfidf")
    x, y = (words.encode([code for code, _ in part]).vectors for part in (train, held))
    labels = torch.tensor([label for _, label in train])
    balance = 1 / labels.bincount().float()
    classifier = nn.Linear(x.shape[1], len(balance))
    optimizer = torch.optim.LBFGS(classifier.parameters(), max_iter=30)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(16 * classifier(x), labels, weight=balance)
        loss = loss + 1e-3 * classifier.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return scores(classifier(y).argmax(1), held)


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    train, held = split(seed)
    if quick:
        held = held[::10]
    steps = 4 if quick else 80
    found = {arm: classify(tower(arm, seed, quick), train, held, steps, seed) for arm in ARMS}
    most = Counter(label for _, label in train).most_common(1)[0][0]
    always = scores(torch.full((len(held),), most), held)
    return {**found, "tf-idf": counted(train, held), "largest package": always}


def layer_weights_sum_to_one() -> None:
    states = Embedding(torch.randn(5, 3, 8), torch.ones(5, 3, dtype=torch.bool))
    assert torch.allclose(PromptMask(8, 8).weights(states).sum(1), torch.ones(5))


def one_layer_is_mask_pooling() -> None:
    states = Embedding(torch.randn(5, 1, 8), torch.ones(5, 1, dtype=torch.bool))
    assert torch.equal(PromptMask(8, 8)(states).values, states.normalize().values)


def every_row_has_one_mask_however_long_the_code() -> None:
    options = {"dim": 8, "layers": 1, "heads": 1, "max_length": 64}
    encoder = coembed.load("heads/cloze", encoder="code/transformer", options=options, template=TEMPLATE)
    batch = encoder.collate(["x = 1", "[MASK]", "y = 2\n" * 500, ""])
    assert (batch["ids"] == encoder.inner.mask_token).sum(1).tolist() == [1, 1, 1, 1]


recipe = Recipe(
    method="codeprompt",
    title="CodePrompt: the package of a function, by a prompt's mask token",
    run=run,
    claims=[
        Claim("all layers beat the last", "accuracy", better="mask, all layers", than="mask, last layer"),
        Claim("the mask beats [CLS]", "accuracy", better="mask, all layers", than="[CLS]"),
        Claim("the mask beats the mean", "accuracy", better="mask, all layers", than="mean"),
        Claim("it needs pretraining", "accuracy", better="mask, all layers", than="mask, not pretrained"),
    ],
    invariants=[layer_weights_sum_to_one, one_layer_is_mask_pooling, every_row_has_one_mask_however_long_the_code],
)

if __name__ == "__main__":
    main(recipe)
