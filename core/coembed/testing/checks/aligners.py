"""Checks on aligners."""

from __future__ import annotations

import json

import torch

from coembed.aligner import Aligner
from coembed.embedding import Embedding
from coembed.plugins import load
from coembed.space import Space
from coembed.testing.subject import Broken, Subject, check, hold, refused
from coembed.testing.toy import toy_encoder
from coembed.tower import Tower

IN, OUT, ROWS = 12, 6, 9


def _features(rows: int = ROWS, tokens: int = 1, seed: int = 0, dim: int = IN) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    return Embedding(torch.randn(rows, tokens, dim, generator=generator), torch.ones(rows, tokens, dtype=torch.bool))


def _built(subject: Subject) -> Aligner:
    """An aligner to a smaller space, or one that keeps the width; a closed form is fitted on a small pair set."""
    fit = getattr(subject.target, "fit", None)
    if fit is not None:
        fitted: Aligner = fit(_features(64), _features(64, seed=1))[0]
        return fitted.eval()
    for out in (OUT, IN):
        try:
            built: Aligner = load(subject.spec.name, "aligner", in_dim=IN, out_dim=out)
            return built.eval()
        except ValueError as error:
            last = error
    raise Broken(f"can't be built from width {IN} to {OUT}, nor to {IN}: {last}") from last


@check("aligner")
def gives_unit_vectors(subject: Subject) -> None:
    """Output is [n, T', out_dim] of unit vectors, also for no rows; features of another width are refused."""
    aligner = _built(subject).requires_grad_(False)
    for tokens in (1, 3):
        out = aligner(_features(tokens=tokens))
        norms = out.values[out.mask].norm(dim=-1)
        hold(
            len(out) == ROWS and out.dim == aligner.out_dim,
            f"{ROWS} rows gave {list(out.values.shape)}: [{ROWS}, T, {aligner.out_dim}] is expected",
        )
        hold(
            torch.allclose(norms, torch.ones_like(norms), atol=1e-5),
            f"vectors of length {float(norms.min()):.3f} to {float(norms.max()):.3f}: normalise them",
        )
    none = aligner(_features(rows=0))
    hold(len(none) == 0 and none.dim == aligner.out_dim, f"no rows gave {list(none.values.shape)}")
    refused(
        lambda: aligner(_features(dim=IN + 1)),
        f"features of width {IN + 1} were accepted, but it was built for {IN}: raise ValueError",
    )


@check("aligner")
def ignores_padding(subject: Subject) -> None:
    """Masked tokens, whatever they hold, change nothing, and a row does not depend on its neighbours."""
    aligner = _built(subject)
    x = _features(tokens=3)
    padded = x.pad(5)
    values = padded.values.clone()
    values[:, 3:] = 1e6
    clean = aligner(x)
    out = aligner(Embedding(values, padded.mask))
    hold(
        torch.allclose(out.values[out.mask], clean.values[clean.mask], atol=1e-5),
        "masked tokens leak: leave x.mask's False out of sums, norms and attention",
    )
    alone = aligner(x[:1])
    hold(
        torch.allclose(alone.values[alone.mask], clean.values[0][clean.mask[0]], atol=1e-5),
        "a row differs alone and among others: use no statistics of the batch in evaluation mode",
    )


@check("aligner")
def passes_gradients(subject: Subject) -> None:
    """Gradients reach every parameter and the features, and are finite."""
    aligner, x = _built(subject).train(), _features(tokens=3)
    leaf = x.values.clone().requires_grad_()
    out = aligner(Embedding(leaf, x.mask))
    loss = (out.values * torch.randn(out.values.shape, generator=torch.Generator().manual_seed(0))).sum()
    hold(loss.requires_grad, "no gradient passes: don't detach, and don't work under no_grad")
    loss.backward()
    hold(leaf.grad is not None and leaf.grad.isfinite().all(), "the features get no finite gradient: don't detach")
    named = [(name, p) for name, p in aligner.named_parameters() if p.requires_grad]
    dead = [name for name, p in named if p.grad is None]
    hold(not dead, f"no gradient reaches {', '.join(dead)}: use them in project, or drop them")
    bad = [name for name, p in named if p.grad is not None and not p.grad.isfinite().all()]
    hold(not bad, f"the gradients of {', '.join(bad)} are not finite")


@check("aligner")
def survives_a_space(subject: Subject) -> None:
    """A saved space that holds it loads, and gives the same vectors."""
    aligner = _built(subject)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in aligner.parameters():  # as after training
            parameter.add_(0.05 * torch.rand(parameter.shape, generator=generator))
    folder = subject.folder / "space"
    space = Space({"it": Tower(toy_encoder(dim=IN), aligner)})
    space.save(folder)
    entry = json.loads((folder / "space.json").read_text(encoding="utf-8"))["towers"]["it"]["aligner"]
    hold(
        entry is not None and entry["name"] == subject.spec.name,
        f"a space saves it as {entry and entry['name']!r}, not {subject.spec.name!r}, so it can't be loaded: a fit() "
        "must build what it gives with coembed.load(name, 'aligner', in_dim=…, out_dim=…)",
    )
    rebuilt = load(entry["name"], "aligner", **entry["kwargs"])
    loaded = Space.load(folder, towers={"it": Tower(toy_encoder(dim=IN), rebuilt)})
    items = ["one", "two", "three"]
    hold(
        torch.equal(loaded.encode("it", items).values, space.encode("it", items).values),
        "loaded again it gives other vectors: keep what decides them in parameters and buffers",
    )
