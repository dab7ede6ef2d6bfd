"""bert2BERT: a wide transformer starts from a narrow trained one, against starting from scratch.

Chen et al., bert2BERT: Towards Reusable Pretrained Language Models (arXiv 2110.07143, 2021; ACL 2022): units are copied
and the weights that read them shared out, so that the wide model computes what the narrow one did (FPI); or the added
units are those of the next block, which breaks the symmetry of the copies (AKI); and training begins with parts of the
model, of which the top blocks learn (two stages). The formulas are taken from a third party's notes and code.

A masked language model of 3 blocks reads docstrings of the standard library. One of width 64 trains first; those of
width 128 then take equal steps on equal batches and masks: from scratch, with the narrow weights in a corner of fresh
ones (direct), by FPI, by AKI, and by AKI with a third of the steps in the first stage. The narrow one going on is the
control. Here copies are balanced, so that FPI is exact (the paper draws them); one difference in size only, no depth.
The output table is tied to the input's, which multiplies the logits of grown models by the copies: divided once.
Figures are mean losses of the ten steps before a point, on batches that no arm has seen, and the loss on held-out
modules at the end; "saved" is the share of steps that an arm is ahead when it reaches what scratch ends with.

    pip install coembed coembed-text coembed-samples coembed-bench
    python examples/recipes/bert2bert.py [--quick] [--json] [--out FOLDER]
"""

import copy
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import coembed
from coembed import CoembedWarning, Record, Records, Space, Tower
from coembed.growth import grow, partial_depth
from coembed.growth.encoder import relative
from coembed.tasks import Task
from coembed_bench.recipe import Claim, Recipe, main

NARROW, WIDE, BATCH, MASKED = 64, 128, 24, 0.15
POINTS = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the steps


class MaskedTokens(Task):
    """Which token stood where a mask is, by the tied table; `share` undoes the copies that a table is made of."""

    def __init__(self, source: Records, bias: torch.Tensor, share: float = 1.0) -> None:
        super().__init__(source, ("text",))
        self.bias, self.share = nn.Parameter(bias.clone()), share

    def usable(self, record: Record) -> bool:
        return "text" in record

    def loss(self, records, embed, space):
        encoder = space["text"].encoder
        return self.of(encoder, [record["text"] for record in records])

    def of(self, encoder, texts: list[str]) -> torch.Tensor:
        batch = encoder.collate(texts)
        ids, tokenizer = batch["ids"], encoder.tokenizer
        plain = batch["mask"] & (ids != tokenizer.cls) & (ids != tokenizer.sep)
        masked = plain & (torch.rand(ids.shape) < MASKED)
        states = encoder({**batch, "masked": masked}).values[masked]
        logits = states @ encoder.embed_tokens.table.weight.T * self.share + self.bias
        return F.cross_entropy(logits, ids[masked])


@cache
def data() -> tuple[Records, Records]:
    """Docstrings to train on and held out by module."""
    train, held = coembed.load("samples/stdlib", name="kept").split(held_out=0.15, seed=0)
    return tuple(Records(Record({"text": r["text"]}, id=r.id) for r in side) for side in (train, held))


def encoder(width: int, seed: int) -> coembed.Encoder:
    made = coembed.load(
        "text/transformer", tokenizer="bpe:1024", dim=width, ff=2 * width, layers=3, heads=width // 16, dropout=0.1,
        max_length=24, seed=seed,
    )  # fmt: skip
    made.fit_tokenizer(r["text"] for r in data()[0])
    return made


def trained(made: coembed.Encoder, task: MaskedTokens, steps: int, seed: int, first: int = 0) -> list[float]:
    """The loss of every step; of the first `first` only parts of the encoder learn."""
    space = Space({"text": Tower(made, "identity", train="all")})
    settings = {"batch_size": BATCH, "lr": 3e-3, "micro_batch": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoembedWarning)  # long docstrings are cut
        losses = []
        if first:
            with partial_depth(space, [task], layers=1) as parts:
                losses = coembed.fit(space, tasks=parts, steps=first, seed=seed + 1, **settings).losses
        return losses + coembed.fit(space, tasks=[task], steps=steps - first, seed=seed, **settings).losses


def held_out(made: coembed.Encoder, task: MaskedTokens) -> float:
    """The loss on held-out docstrings, the same masks for every model."""
    texts = [r["text"] for r in data()[1]][:480]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", CoembedWarning)
        torch.manual_seed(99)
        found = [task.of(made.eval(), texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
    return float(torch.stack(found).mean())


def grown(small: coembed.Encoder, method: str, seed: int) -> coembed.Encoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoembedWarning)  # all but FPI change the output, and say so
        return grow(small, width=WIDE, method=method, seed=seed)


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Losses of every arm at fixed shares of equal steps, and on what was held out."""
    before, steps = (10, 10) if quick else (250, 100)
    train, _ = data()
    small = encoder(NARROW, seed)
    zero = torch.zeros(small.tokenizer.vocab_size)
    first = MaskedTokens(train, zero)
    trained(small, first, before, seed)
    bias = first.bias.detach()
    arms = {
        "narrow": (copy.deepcopy(small), bias, 1.0, 0),
        "scratch": (encoder(WIDE, seed), zero, 1.0, 0),
        "direct": (grown(small, "direct", seed), bias, 1.0, 0),
        "FPI": (grown(small, "fpi", seed), bias, NARROW / WIDE, 0),
        "AKI": (grown(small, "aki", seed), bias, NARROW / WIDE, 0),
        "AKI, two stages": (grown(small, "aki", seed), bias, NARROW / WIDE, steps // 3),
    }
    found, curves = {}, {}
    for name, (made, start, share, parts) in arms.items():
        task = MaskedTokens(train, start, share)
        at_start = held_out(made, task)
        curves[name] = trained(made, task, steps, seed + 1000, parts)
        smooth = [sum(curves[name][max(0, i - 10) : i]) / min(i, 10) for i in range(1, steps + 1)]
        row = {"start": at_start} | {f"{point:.0%}": smooth[round(point * steps) - 1] for point in POINTS}
        found[name] = {**row, "held out": held_out(made, task)}
        curves[name] = smooth
    goal = curves["scratch"][-1]
    for name, smooth in curves.items():
        reached = next((i for i, value in enumerate(smooth) if i >= 9 and value <= goal), steps - 1)
        found[name]["saved"] = 1 - (reached + 1) / steps
    return found


def exact(made: coembed.Encoder, other: coembed.Encoder) -> float:
    texts = [r["text"][:60] for r in data()[1]][:8]
    times = other.dim // made.dim
    return relative(made.encode(texts).vectors.repeat(1, times), other.encode(texts).vectors)


def small_one() -> coembed.Encoder:
    """Random weights that matter, biases and norms too."""
    made = coembed.load("text/transformer", dim=16, heads=2, layers=3, dropout=0.0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return made.double().eval()


def balanced_copies_compute_the_same() -> None:
    for times in (2, 3):
        assert exact(small_one(), grow(small_one(), width=16 * times)) < 1e-10


def norms_divided_by_the_copies_do_not() -> None:
    wide = grow(small_one(), width=32)
    for part in wide.modules():
        if isinstance(part, nn.LayerNorm):
            part.weight.data.div_(2)
    assert exact(small_one(), wide) > 0.05


def copies_learn_alike_and_with_aki_they_do_not() -> None:
    apart = {}
    for method in ("fpi", "aki"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoembedWarning)
            wide = grow(small_one(), width=32, method=method)
        x = wide.pooled(wide(wide.collate(["one", "two", "three"]))).vectors
        F.cross_entropy(F.normalize(x) @ F.normalize(x).T, torch.tensor([1, 2, 0])).backward()
        slope = wide.body.blocks[0].up.weight.grad
        apart[method] = float((slope[:64] - slope[64:]).abs().max() / slope.abs().max())
    assert apart["fpi"] < 1e-9 < 1e-2 < apart["aki"], apart


def picture(results: Mapping[int, Mapping[str, Mapping[str, float]]], folder: Path) -> Path:
    """The losses at the points, means over the seeds."""
    columns = [f"{point:.0%}" for point in POINTS]
    mean = {
        arm: [sum(run[arm][c] for run in results.values()) / len(results) for c in columns]
        for arm in next(iter(results.values()))
    }
    low, high = min(map(min, mean.values())), max(map(max, mean.values()))
    colors = ["#888", "#000", "#b45309", "#2563eb", "#16a34a", "#9333ea"]
    parts = ['<rect width="560" height="330" fill="#fff"/>', '<text x="8" y="16">masked-token loss by steps</text>']
    for at, (arm, values) in enumerate(mean.items()):
        spots = [
            (50 + 340 * point, 290 - 250 * (v - low) / ((high - low) or 1))
            for point, v in zip(POINTS, values, strict=True)
        ]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in spots)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colors[at]}" stroke-width="2"/>')
        parts.append(f'<text x="400" y="{60 + 18 * at}" fill="{colors[at]}">{arm} {values[-1]:.3f}</text>')
    parts += [f'<text x="{40 + 340 * point:.0f}" y="310">{point:.0%}</text>' for point in POINTS]
    parts += [f'<text x="4" y="{y}">{value:.2f}</text>' for y, value in ((44, high), (294, low))]
    path = folder / "bert2bert.svg"
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 330" width="560" font-family="sans-serif"'
    path.write_text(f'{head} font-size="12">{"".join(parts)}</svg>\n', encoding="utf-8")
    return path


recipe = Recipe(
    method="bert2bert",
    title="bert2BERT: a wide transformer grown from a narrow one",
    run=run,
    invariants=[
        balanced_copies_compute_the_same,
        norms_divided_by_the_copies_do_not,
        copies_learn_alike_and_with_aki_they_do_not,
    ],
    claims=[
        Claim("FPI is ahead of scratch", "held out", better="FPI", than="scratch", higher=False),
        Claim("AKI is ahead of scratch", "held out", better="AKI", than="scratch", higher=False),
        Claim("FPI is ahead of a direct copy", "held out", better="FPI", than="direct", higher=False),
        Claim("AKI is ahead of FPI", "held out", better="AKI", than="FPI", higher=False),
        Claim("two stages do no worse than one", "held out", better="AKI, two stages", than="AKI", higher=False),
        Claim("growing beats training the narrow one on", "held out", better="FPI", than="narrow", higher=False),
    ],
    picture=picture,
)

if __name__ == "__main__":
    main(recipe)
