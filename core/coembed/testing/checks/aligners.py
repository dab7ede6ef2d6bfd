"""Checks on aligners."""

from __future__ import annotations

import inspect

import torch

from coembed.aligner import Aligner
from coembed.embedding import Embedding
from coembed.testing.cases import Inapplicable, Subject, check

IN, ROWS = 12, 9


def _features(rows: int = ROWS, tokens: int = 1, seed: int = 0) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    return Embedding(torch.randn(rows, tokens, IN, generator=generator), torch.ones(rows, tokens, dtype=torch.bool))


def _built(subject: Subject) -> Aligner:
    """An aligner to a smaller space; one that keeps the width, and a closed form fitted on a small pair set."""
    fit = getattr(subject.target, "fit", None)
    if fit is not None:
        fitted: Aligner = fit(_features(64), _features(64, seed=1))[0]
        return fitted.eval()
    kwargs = dict(subject.spec.kwargs) if subject.spec else {}
    for out in (6, IN):
        try:
            built: Aligner = subject.target(IN, out, **kwargs)
            return built.eval()
        except ValueError as error:
            last = error
    raise AssertionError(f"can't be built from {IN} to 6 nor to {IN}: {last}")


@check("aligner")
def gives_unit_vectors(subject: Subject) -> None:
    """Output is [n, T', out_dim] at unit length, and a wrong width is refused."""
    aligner = _built(subject)
    for tokens in (1, 3):
        x = _features(tokens=tokens)
        out = aligner(x)
        norms = out.values[out.mask].norm(dim=-1)
        assert len(out) == ROWS and out.dim == aligner.out_dim, (
            f"shape {tuple(out.values.shape)} for width {aligner.out_dim}"
        )
        assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5), "the vectors are not of unit length"
    try:
        aligner(Embedding(torch.ones(1, 1, IN + 1), torch.ones(1, 1, dtype=torch.bool)))
    except ValueError:
        return
    raise AssertionError("features of another width were accepted")


@check("aligner")
def ignores_padding(subject: Subject) -> None:
    """Masked tokens, whatever they hold, do not change the output."""
    aligner = _built(subject)
    x = _features(tokens=3)
    padded = x.pad(5)
    values = padded.values.clone()
    values[:, 3:] = 1e6
    out, clean = aligner(Embedding(values, padded.mask)), aligner(x)
    assert torch.allclose(out.values[out.mask], clean.values[clean.mask], atol=1e-5), (
        "masked tokens leak"
    )


@check("aligner")
def passes_gradients(subject: Subject) -> None:
    """Gradients reach every parameter and the features, and are finite."""
    aligner, x = _built(subject).train(), _features(tokens=3)
    leaf = x.values.clone().requires_grad_()
    out = aligner(Embedding(leaf, x.mask))
    (out.values * torch.randn(out.values.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all(), "the features get no finite gradient"
    dead = [name for name, p in aligner.named_parameters() if p.requires_grad and p.grad is None]
    assert not dead, f"no gradient at {', '.join(dead)}"


@check("aligner")
def state_restores(subject: Subject) -> None:
    """Its state dict in another instance of the same arguments gives the same output."""
    aligner = _built(subject)
    kwargs = {k: getattr(aligner, k) for k in inspect.signature(type(aligner)).parameters if hasattr(aligner, k)}
    try:
        other = type(aligner)(**kwargs).eval()
        other.load_state_dict(aligner.state_dict())
    except TypeError as error:
        raise Inapplicable(f"arguments can't be read back from attributes: {error}") from error
    x = _features()
    assert torch.equal(aligner(x).values, other(x).values), "a restored aligner gives other vectors"
