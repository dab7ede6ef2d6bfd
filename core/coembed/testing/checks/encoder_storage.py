"""Checks on encoders that leave the process: on disk, in a saved space, in a worker."""

from __future__ import annotations

import multiprocessing
import pickle
from typing import Any, cast

import torch
from torch import Tensor

from coembed.encoder import Encoder
from coembed.plugins import PluginError
from coembed.space import Space
from coembed.testing.checks.encoders import samples, some
from coembed.testing.subject import Broken, Subject, check, hold


def _moved(subject: Subject) -> Encoder:
    """An encoder whose weights are not those that a fresh one has, as after training."""
    encoder: Encoder = subject.tiny()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float32)
                tensor.add_(0.05 * noise.to(tensor.dtype))
    return encoder


def _same(encoder: Encoder, other: Encoder, what: str) -> None:
    items = some(encoder)
    hold(
        torch.equal(encoder.encode(items).values, other.encode(items).values),
        f"{what} gives other vectors: keep what decides them in parameters, buffers, or save_assets",
    )
    hold(
        encoder.fingerprint() == other.fingerprint(),
        f"{what} has another fingerprint: it must depend on weights, prompts and assets alone",
    )


@check("encoder")
def saves_and_restores(subject: Subject) -> None:
    """What save writes, restore reads into another instance: the same vectors and fingerprint."""
    encoder, other = _moved(subject), subject.tiny()
    encoder.save(subject.folder / "saved")
    other.restore(subject.folder / "saved")
    _same(encoder, other.eval(), "a restored encoder")


@check("encoder")
def survives_a_space(subject: Subject) -> None:
    """A saved space that holds it loads: `open` builds it from its name, its arguments and what save wrote."""
    encoder = _moved(subject)
    hold(encoder.source is None, f"tiny() names the source {encoder.source!r}: weights made here have source None")
    Space({"it": encoder}).save(subject.folder / "space")
    try:
        again = Space.load(subject.folder / "space")["it"].encoder
    except (ValueError, TypeError, PluginError) as error:
        raise Broken(
            f"the space can't be loaded ({type(error).__name__}: {error}): let tiny() leave the arguments that it "
            "builds with in .spec.kwargs, or override open(spec, folder)"
        ) from error
    _same(encoder, again, "the encoder of a loaded space")


@check("encoder")
def collates_in_workers(subject: Subject) -> None:
    """collate gives a dict of CPU tensors that pickles, and gives the same in a worker process."""
    encoder: Encoder = subject.shared()
    items = samples(encoder)
    batch = encoder.collate(items)
    wrong = {k: type(v).__name__ for k, v in batch.items() if not isinstance(v, Tensor) or v.device.type != "cpu"}
    hold(isinstance(batch, dict) and not wrong, f"collate gives {wrong or type(batch)}: a dict of CPU tensors, please")
    try:
        again = pickle.loads(pickle.dumps(batch))
    except Exception as error:
        raise Broken(f"collate's batch does not pickle ({error}): give plain tensors, and no functions") from error
    _equal(again, batch, "pickled")
    fork = "fork" in multiprocessing.get_all_start_methods()
    loader: Any = torch.utils.data.DataLoader(
        cast(Any, items),
        batch_size=len(items),
        collate_fn=encoder.collate,
        num_workers=1,
        multiprocessing_context="fork" if fork else "spawn",
        timeout=60,
    )
    try:
        worked = next(iter(loader))
    except Exception as error:
        cause = str(error).strip().splitlines()[-1]
        raise Broken(f"collate fails in a worker process ({cause}): let it need items and tokeniser only") from error
    _equal(worked, batch, "made in a worker process")


def _equal(batch: dict[str, Tensor], wanted: dict[str, Tensor], how: str) -> None:
    different = [k for k in wanted if k not in batch or not torch.equal(batch[k], wanted[k])]
    hold(not different, f"a batch {how} differs in {', '.join(different)}: collate may depend on the items alone")
