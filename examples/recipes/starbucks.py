"""Starbucks: a fixed list of (layers, dimensions) sizes, all trained in every step, on a backbone prepared for them.

Wang et al., Starbucks: Improved Training for 2D Matryoshka Embeddings (arXiv 2410.13230, 2024). Its representation
learning (SRL) adds to the full model's loss that of every smaller size of a list and the KL of that size's scores from
the full ones, which stay as they are; its pre-training (SMAE) predicts masked words at every size, directly and through
the size's vector by a decoder of one layer that is thrown away. Here `coembed.objectives.Starbucks` and
`pretrain/smae`, on one encoder of 4 layers and 64 dimensions from scratch and the standard library's texts and code,
held out by module (there: BERT-base, six sizes, millions of pairs). Vectors are means of tokens, not the first token's.

Arms take equal contrastive steps: `full` is trained whole and cut, `2-D` is 2-D Matryoshka's drawn layer and width,
`SRL` the fixed list, `separate` one model a size of that many layers, trained at its width alone. `SMAE, SRL` and
`MLM, SRL` are pre-trained first, for equal steps; `SRL, longer` spends those steps on SRL instead. A size is encoded by
stopping after its layer. R@10 from text to code.

    pip install coembed coembed-text coembed-pretrain coembed-samples coembed-bench
    python examples/recipes/starbucks.py [--quick] [--json]
"""

import torch

from coembed import Embedding, Matryoshka, Tower
from coembed.depths import interleave
from coembed.objectives import InfoNCE, Matryoshka2D, Starbucks
from coembed.testing import toy_encoder
from coembed_bench.recipe import Claim, Recipe, main
from coembed_bench.sized import DIM, LAYERS, encoder, pairs, pretrained, recalls, trained
from coembed_pretrain.words import hidden_words

SIZES = ((1, 8), (2, 16), (3, 32), (LAYERS, DIM))
NAMES = {size: f"{size[0]} x {size[1]}" for size in SIZES}


def srl() -> Starbucks:
    """The fixed list; the full size is in it, and counts once."""
    return Starbucks(InfoNCE(), sizes=SIZES)


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """R@10 of every size for every arm, and the mean of the two smallest."""
    source, held = pairs(200 if quick else None)
    steps, before = (4, 4) if quick else (60, 90)
    figures = {}

    def measured(arm: str, model: object, objective: object, steps: int = steps) -> None:
        figures[arm] = recalls(trained(model, source, objective, steps, seed), held, SIZES)

    measured("full", encoder(source, seed), InfoNCE())
    measured("2-D", encoder(source, seed), Matryoshka2D(InfoNCE(), dims=[dim for _, dim in SIZES[:-1]]))
    measured("SRL", encoder(source, seed), srl())
    measured("SRL, longer", encoder(source, seed), srl(), steps + before)
    for arm, sizes, decode in (("SMAE, SRL", SIZES, True), ("MLM, SRL", SIZES[-1:], False)):
        model = encoder(source, seed)
        pretrained(model, source, sizes, before, seed, decode=decode)
        measured(arm, model, srl())
    figures["separate"] = {SIZES[-1]: figures["full"][SIZES[-1]]}
    for layer, dim in SIZES[:-1]:
        alone = trained(encoder(source, seed, layers=layer), source, Matryoshka(InfoNCE(), dims=[dim]), steps, seed)
        figures["separate"] |= recalls(alone, held, [(layer, dim)])
    return {
        arm: {
            **{NAMES[size]: found[size] for size in SIZES},
            "small": (found[SIZES[0]] + found[SIZES[1]]) / 2,
        }
        for arm, found in figures.items()
    }


def the_full_size_alone_is_the_plain_loss() -> None:
    """sizes=[(L, D)] equals the inner loss bit for bit."""
    x, y = (Embedding.from_vectors(torch.randn(6, DIM)).normalize() for _ in range(2))
    assert torch.equal(Starbucks(InfoNCE(), sizes=SIZES[-1:])(x, y), InfoNCE()(x, y))


def the_kl_spares_the_full_scores() -> None:
    """With the KL and without it, the full vectors get the same gradient, the small ones another."""
    found = []
    for kl in (0.0, 1.0):
        generator = torch.Generator().manual_seed(0)
        small, full = (torch.randn(6, 1, 16, generator=generator).requires_grad_() for _ in range(2))
        mask = torch.ones(6, 1, dtype=torch.bool)
        x = interleave([Embedding(small, mask).normalize(), Embedding(full, mask).normalize()], (1, 2))
        Starbucks(InfoNCE(), sizes=[(1, 8)], kl=kl)(x, x).backward()
        found.append((small.grad, full.grad))
    (small, full), (other_small, other_full) = found
    assert torch.equal(full, other_full) and not torch.equal(small, other_small)


def a_size_runs_its_layers_only() -> None:
    """Encoding at (2, 16) runs two blocks and gives unit vectors of width 16."""
    tower = Tower(toy_encoder(dim=32, blocks=4), "identity").eval()
    tower.declare((), [(2, 16)])
    ran = []
    for block in tower.encoder.blocks():
        block.register_forward_hook(lambda *_: ran.append(1))
    vectors = tower.encode(["a text"], layer=2, dim=16).vectors
    assert len(ran) == 2 and vectors.shape == (1, 16) and torch.allclose(vectors.norm(), torch.ones(()))


def what_the_encoder_misses_the_decoder_misses_too() -> None:
    """Masked words of the encoder are among those of the decoder."""
    few, many = hidden_words([[-1, *range(20), -1]] * 8, (0.2, 0.4), 22)
    assert (many | ~few).all() and few.sum() == 8 * 4 and many.sum() == 8 * 8


FIRST, SECOND = (NAMES[size] for size in SIZES[:2])
recipe = Recipe(
    method="starbucks",
    title="Starbucks: fixed sizes with their KL, and masked auto-encoding before",
    run=run,
    invariants=[
        the_full_size_alone_is_the_plain_loss,
        the_kl_spares_the_full_scores,
        a_size_runs_its_layers_only,
        what_the_encoder_misses_the_decoder_misses_too,
    ],
    claims=[
        *(Claim(f"SRL beats drawn sizes at {name}", name, better="SRL", than="2-D") for name in (FIRST, SECOND)),
        *(Claim(f"drawn sizes beat cutting at {name}", name, better="2-D", than="full") for name in (FIRST, SECOND)),
        *(Claim(f"one SRL model beats its own model at {n}", n, better="SRL", than="separate") for n in NAMES.values()),
        Claim("SMAE prepares small sizes better than MLM", "small", better="SMAE, SRL", than="MLM, SRL"),
        Claim("SMAE helps small sizes", "small", better="SMAE, SRL", than="SRL"),
        Claim("SMAE is worth its steps at small sizes", "small", better="SMAE, SRL", than="SRL, longer"),
    ],
)

if __name__ == "__main__":
    main(recipe)
