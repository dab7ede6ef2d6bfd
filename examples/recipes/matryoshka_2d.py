"""2-D Matryoshka: one model for every depth and every width, against plain training and 1-D Matryoshka.

Li et al., 2D Matryoshka Sentence Embeddings (arXiv 2402.14776, 2024; later ESE, ICLR 2025): each step adds to the loss
of the whole model those of a drawn shallower layer, of a drawn prefix of the dimensions, and of both at once, and pulls
the shallow layer towards the last one by a KL. Here it is variant "v1" of `coembed.objectives.Matryoshka2D`, the code
as first released, with the teacher detached and vectors at unit length (there: raw, and with gradient).

Texts and code of the standard library, one encoder of 4 layers and 64 dimensions from scratch, held out by module.
Every arm takes equal steps. The grid is R@10 from text to code after each layer (really stopping there) at each width,
cut first and normalised afterwards. The price at the whole model is part of the picture. Where plain training is as
good after its first layer as after its last, as on pairs that mostly share words, there is little for a second
dimension to win: read the claims beside the column of `plain`.

    pip install coembed coembed-text coembed-samples coembed-bench
    python examples/recipes/matryoshka_2d.py [--quick] [--json] [--out FOLDER]
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import torch

from coembed import Embedding, Matryoshka, Tower
from coembed.depths import interleave
from coembed.objectives import InfoNCE, Matryoshka2D
from coembed.objectives.agreement import feature_kl
from coembed.objectives.pairs import Pairs
from coembed.testing import toy_encoder
from coembed_bench.recipe import Claim, Recipe, main
from coembed_bench.sized import DIM, LAYERS, drawn, encoder, pairs, recalls, trained

DIMS = (8, 16, 32)
DEPTHS, WIDTHS = range(1, LAYERS + 1), (*DIMS, DIM)
GRID = list(product(DEPTHS, WIDTHS))
ARMS = {
    "plain": lambda: InfoNCE(),
    "1-D": lambda: Matryoshka(InfoNCE(), dims=WIDTHS),
    "2-D": lambda: Matryoshka2D(InfoNCE(), dims=DIMS),
    "2-D, no KL": lambda: Matryoshka2D(InfoNCE(), dims=DIMS, kl=0.0),
}


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """R@10 of every cell for every arm, and the mean over the widths of each layer."""
    source, held = pairs(200 if quick else None)
    figures = {}
    for arm, objective in ARMS.items():
        space = trained(encoder(source, seed), source, objective(), 8 if quick else 100, seed)
        found = recalls(space, held, GRID)
        figures[arm] = {f"layer {n}, {d}": found[n, d] for n, d in GRID}
        figures[arm] |= {f"layer {n}": _mean([found[n, d] for d in WIDTHS]) for n in DEPTHS}
    return figures


def stopping_early_runs_no_later_block() -> None:
    """A vector after layer 2 is hidden state 2 of a whole pass, and blocks 3 and 4 never ran."""
    tower = Tower(toy_encoder(dim=8, blocks=4), "identity").eval()
    ran = []
    hooks = [block.register_forward_hook(lambda *_: ran.append(1)) for block in tower.encoder.blocks()]
    early = tower.encode(["a text"], layer=2).vectors
    assert len(ran) == 2, ran
    whole = tower.hidden(tower.encoder.collate(["a text"]), (1, 2, 3, 4))[1].vectors
    assert torch.allclose(early, whole, atol=1e-6)
    for hook in hooks:
        hook.remove()


def the_kl_is_nothing_at_the_last_layer_and_spares_its_teacher() -> None:
    """KL = 0 between layer N and itself, and no gradient of it reaches the teacher."""
    last, shallow = (torch.randn(5, 8, requires_grad=True) for _ in range(2))
    teacher, student = (Pairs.of(*[Embedding.from_vectors(x).normalize()] * 2) for x in (last, shallow))
    assert not feature_kl(teacher, teacher, 1.0).any()
    feature_kl(teacher, student, 1.0).sum().backward()
    assert last.grad is None and shallow.grad is not None


def widths_are_cut_and_then_normalised() -> None:
    """Every loss of a step sees unit vectors."""
    seen = []

    class Watched(InfoNCE):
        def forward(self, a, b, **given):
            seen.append(a.vectors.norm(dim=-1))
            return super().forward(a, b, **given)

    x = interleave([Embedding.from_vectors(torch.randn(5, 64)).normalize() for _ in range(2)], (1, 2))
    Matryoshka2D(Watched(), dims=DIMS)(x, x)
    assert len(seen) == 4 and all(torch.allclose(norms, torch.ones(5)) for norms in seen)


def picture(results: Mapping[int, Mapping[str, Mapping[str, float]]], folder: Path) -> Path:
    """The grids of all arms, means over the seeds, side by side."""
    grids = {
        arm: [[_mean([run[arm][f"layer {n}, {d}"] for run in results.values()]) for d in WIDTHS] for n in DEPTHS]
        for arm in ARMS
    }
    path = folder / "matryoshka_2d.svg"
    path.write_text(drawn("R@10, text to code", grids, DEPTHS, WIDTHS), encoding="utf-8")
    return path


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


recipe = Recipe(
    method="matryoshka-2d",
    title="2-D Matryoshka: every layer at every width of one model",
    run=run,
    invariants=[
        stopping_early_runs_no_later_block,
        the_kl_is_nothing_at_the_last_layer_and_spares_its_teacher,
        widths_are_cut_and_then_normalised,
    ],
    claims=[
        *(Claim(f"2-D beats 1-D after layer {n}", f"layer {n}", better="2-D", than="1-D") for n in DEPTHS[:-1]),
        Claim("2-D beats plain after the last layer at 8 dimensions", f"layer {LAYERS}, 8", better="2-D", than="plain"),
        Claim("the whole model pays for it", f"layer {LAYERS}, {DIM}", better="plain", than="2-D"),
        Claim("the KL helps the first layer", "layer 1", better="2-D", than="2-D, no KL"),
    ],
    picture=picture,
)

if __name__ == "__main__":
    main(recipe)
