"""fit: the trainer. Reads top to bottom: settings, data, frozen features, steps, held-out figures, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from coembed.aligner import Aligner
from coembed.features import FeatureStore
from coembed.nn import seeded
from coembed.objectives import Objective
from coembed.progress import bar
from coembed.sources import Source
from coembed.sources.given import source_from
from coembed.tasks import Task
from coembed.training import checkpoint, memory, tracking
from coembed.training.averaging import Averages
from coembed.training.blocks import tuned
from coembed.training.columns import read_columns
from coembed.training.distributed import Ranks, join
from coembed.training.frozen import digest, frozen_features, sample
from coembed.training.history import History
from coembed.training.request import check_numbers, tasks_of
from coembed.training.stages import Leg, Stage, distinct, legs
from coembed.training.step import Step
from coembed.training.stopping import between_steps

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from coembed.space import Space


def fit(
    space: Space,
    source: str | Path | Source | None = None,
    *,
    objective: str | Objective = "infonce",
    tasks: Sequence[Task] | None = None,
    stages: Sequence[Stage] | None = None,
    epochs: float = 10,
    steps: int | None = None,
    batch_size: int = 256,
    micro_batch: int | str | None = "auto",
    mixing: float = 1.0,
    lr: float | Mapping[str, float] = 1e-3,
    layer_decay: float = 1.0,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    clip: float = 1.0,
    ema: float | None = None,
    precision: str = "auto",
    checkpointing: bool = False,
    compile: bool | str = False,
    seed: int = 0,
    held_out: str | Path | Source | None = None,
    eval_every: int | None = None,
    out: Path | str | None = None,
    checkpoint_every: int = 200,
    resume: bool = True,
    cache: bool | FeatureStore = True,
    tracker: str | GeneralTracker | None = None,
    progress: bool = False,
) -> History:
    """Train a space on pairs: the aligners of unlocked towers, and of their encoders what the train words say.

    Give `source` (a registered name, a file or folder, an object) and `objective` (every pair of the space's towers
    that records share becomes a task), or `tasks`. `stages` follow each other in one run, each with what it changes of
    these settings, its own warm-up and cosine; see `coembed.training.stages.Stage`.
    `batch_size` is the batch that the loss sees; towers that train see `micro_batch` rows at a time (None: all), with
    the same gradient and less memory: "auto" is all rows where memory allows, else the most that it does, measured when
    a run begins and kept when it is resumed.
    Several tasks share the steps by their batches to the power of 1 / `mixing`, times their weights: 1 is in
    proportion, towards infinity all are equal. `lr` is the peak rate, for all or by tower
    name ("*": the others), after a linear warm-up over the share `warmup` of the steps and before a cosine to zero;
    with `layer_decay` block i of an encoder's n gets its tower's rate times `layer_decay ** (n - i)`, what lies below
    the blocks `layer_decay ** n`. With `ema` the space is evaluated with, and ends with, the exponential average of its
    weights over the steps (0.999: over about the last thousand); checkpoints hold both it and the raw weights.
    `precision` is "fp32", "bf16" (autocast) or "auto" (bf16 on a GPU that has it). `checkpointing` computes the blocks
    that train once more in the backward pass rather than keep what is inside them; `compile` puts them through
    torch.compile (True, or the name of a backend). Features of frozen towers are computed once and cached.
    With `out`, the history (history.jsonl) and checkpoints go there, and a run that was stopped goes on from its last
    checkpoint with the same bits as if it never had; Ctrl-C ends after the step and its checkpoint. `held_out` is
    evaluated every `eval_every` steps and at the end. `tracker` ("tensorboard", "wandb") gets the same rows as curves.
    Started by `torchrun` or `accelerate launch`, or inside a process group of the caller's, every process calls this
    with the same arguments and each takes its part of every batch: the result is that of one process up to rounding
    (with dropout on, other draws). Rank 0 evaluates and writes; see `coembed.training.distributed`.

    Raises ValueError if nothing trains or no record is usable, ResumeError if `out` holds another run, RankError if
    another process ended.

    >>> import coembed
    >>> from coembed.testing import toy_encoder
    >>> space = coembed.Space({"a": toy_encoder(dim=8), "b": toy_encoder(dim=8, seed=1)}, dim=4, aligner="linear")
    >>> pairs = coembed.Records.pairs(a=["one", "two", "three"], b=["1", "2", "3"])
    >>> len(coembed.fit(space, pairs, steps=2, cache=False).losses)
    2
    """
    given = tasks_of(space, source, objective, tasks, stages)
    held_out = source_from(held_out) if held_out is not None else None
    check_numbers(
        {"epochs": epochs, "steps": steps, "batch_size": batch_size, "warmup": warmup}
        | {"micro_batch": None if micro_batch == "auto" else micro_batch}
        | {"weight_decay": weight_decay, "clip": clip, "eval_every": eval_every, "checkpoint_every": checkpoint_every}
        | {"precision": precision}
    )
    tracking.check(tracker)
    device = next(space.parameters()).device
    ranks = join(cpu=device.type == "cpu")
    parts = list(stages) if stages is not None else [Stage()]
    own = [stage.of(given) for stage in parts]
    tasks = distinct(own)
    with seeded(seed):  # what tasks make of their own, such as a pretext's head
        for task in tasks:
            task.prepare(space)
    records = read_columns(tasks)
    for task, columns in zip(tasks, records, strict=True):
        task.attach(columns)
    plan = {"steps": steps, "epochs": epochs, "batch_size": batch_size, "mixing": mixing, "lr": lr}
    plan |= {"layer_decay": layer_decay, "weight_decay": weight_decay, "warmup": warmup, "clip": clip}
    way = legs(parts, own, tasks, records, plan)
    total = way[-1].end

    modules: dict[str, nn.Module] = {f"task{i}": task.to(device) for i, task in enumerate(tasks)}
    towers = sorted({tower for task in tasks for tower in task.towers})
    for name in towers:
        if space[name].trainable():  # a frozen encoder stays as it is: its digest says that it is the same
            modules[f"tower-{name}"] = space[name].aligner if space[name].frozen else space[name]
    optimizers = [leg.optimizer(space, towers) for leg in way]
    trains = {f"{name}.{key}": p for name in towers for key, p in space[name].trainable().items()}
    average = Averages(trains, ema) if ema is not None else None
    if average is not None:
        modules["average"] = average
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"

    ranks.equalize(tensor for module in (space, *tasks) for tensor in (*module.parameters(), *module.buffers()))
    frozen = {name: space[name].encoder for name in towers if space[name].frozen}
    folder = Path(out) if out is not None else None
    # Rank 0 says which checkpoint, or the others might see one that it writes later.
    newest = ranks.word(str(checkpoint.latest(folder / "checkpoints") or "")) if folder is not None and resume else ""
    if micro_batch != "auto":
        rows = int(micro_batch) if micro_batch is not None else None
    elif newest:  # what the run began with, since parts of another size draw and round otherwise
        rows = checkpoint.configuration(Path(newest)).get("micro_batch")
    else:
        known = frozen if cache else ()
        size = max(-(-leg.batch_size * (1 + task.further) // ranks.world) for leg in way for task in leg.tasks)

        def fitting(budget: int) -> int | None:
            return memory.micro_batch(space, tasks, records, known, size, budget, precision, checkpointing)

        rows = memory.for_ranks(ranks, device, fitting)
    settings = {
        "tasks": [task.describe() for task in tasks],
        "train": {name: "locked" if space[name].locked else space[name].train_word for name in towers},
        **{name: value for name, value in plan.items() if name != "epochs"},
        "steps": total,
        "lr": dict(lr) if isinstance(lr, Mapping) else lr,
        "micro_batch": rows,
        **({"stages": [leg.describe() for leg in way]} if stages is not None else {}),
        "ema": ema,
        "precision": precision,
        "compile": compile,
        "seed": seed,
    }
    run = settings | {  # what a checkpoint must have been made with
        "features": str(cache.dtype) if isinstance(cache, FeatureStore) and cache.dtype else "as computed",
        "options": checkpoint.options({n: space[n] for n in towers} | {f"task{i}": t for i, t in enumerate(tasks)}),
        "frozen": {name: encoder.fingerprint() for name, encoder in frozen.items()} if out is not None else {},
        "data": [digest(usable, frozen) for usable in records] if out is not None or ranks.world > 1 else [],
    }
    _agree(ranks, run)
    store = (cache if isinstance(cache, FeatureStore) else FeatureStore()) if cache else None
    progress = progress and ranks.main
    if store is not None and ranks.world > 1:  # each computes its part, then all read the whole
        frozen_features(space, tasks, records, store, progress, ranks.share)
        ranks.wait()
    features = frozen_features(space, tasks, records, store, progress)
    for name in towers:
        seen = [part[name] for part in features.values() if name in part]
        if seen and not space[name].locked and type(space[name].aligner).adapt is not Aligner.adapt:
            space[name].aligner.adapt(sample(seen).to(device))
    start = checkpoint.step_of(Path(newest)) if newest else 0
    if newest:
        here = next((i for i, leg in enumerate(way) if start <= leg.end), -1)
        checkpoint.restore(Path(newest), modules, optimizers[here], run, ranks.world)
    history = History(folder / "history.jsonl" if folder is not None and ranks.main else None, resumed_at=start)
    if start:
        history.rows = ranks.word(history.rows)

    def log(row: dict[str, Any]) -> None:
        history.log(row)
        track(row)

    def measure(done: int) -> None:
        """Log the held-out figures that are due after a step, unless they are there."""
        due = done and (done == total or (eval_every and done % eval_every == 0))
        if held_out is not None and due and not any(r["step"] == done and "figures" in r for r in history.rows):
            figures = ranks.word(_evaluate(space, held_out, store, average, run) if ranks.main else None)
            log({"step": done, "figures": figures})

    space.train()
    try:
        with (
            bar("train", total, progress, unit="steps") as advance,
            tracking.tracked(tracker if ranks.main else None, folder, settings, start) as track,
            between_steps(folder is not None) as stopped,
            tuned({name: space[name] for name in towers}, checkpointing=checkpointing, compile=compile),
        ):
            advance(start)
            measure(start)  # a run that was stopped between a checkpoint and its figures
            for leg, optimizer in zip(way, optimizers, strict=True):
                if leg.end <= start:
                    continue
                if leg.start >= start:  # and not resumed in its midst
                    _begin(leg, space, store, ranks, progress)
                take = Step(space, leg, features, leg.schedule(seed), optimizer, rows, precision, seed, ranks)
                for step in range(max(start, leg.start), leg.end):
                    row = take(step) if stages is None else {**take(step), "stage": way.index(leg)}
                    if average is not None:
                        average.update(step + 1)
                    log(row)
                    advance(1, loss=f"{row['loss']:.4f}", lr=f"{row['lr']:.1e}")
                    done = step + 1
                    stop = folder is not None and ranks.any(stopped())
                    if folder is not None and ranks.main and (stop or done == total or done % checkpoint_every == 0):
                        history.sync()
                        checkpoint.save(folder / "checkpoints", done, modules, optimizer, run, ranks.world)
                    if stop and done < total:
                        raise KeyboardInterrupt
                    measure(done)
        ranks.wait()
        if average is not None:
            average.settle()
    finally:
        space.eval()
    _sign(space, tasks, towers, settings, history)
    return history


def _begin(leg: Leg, space: Space, store: FeatureStore | None, ranks: Ranks, progress: bool) -> None:
    """Let the tasks of a stage look at the space as it is; one process does, and gives the others what it found."""
    space.eval()
    if ranks.main:
        with space.cached(store):
            for task, columns in zip(leg.tasks, leg.columns, strict=True):
                task.refresh(space, columns, progress)
    space.train()
    ranks.wait()
    ranks.equalize(buffer for task in leg.tasks for buffer in task.buffers())


def _agree(ranks: Ranks, run: dict[str, Any]) -> None:
    """Raise ValueError, on every rank, if one of them was given another run than rank 0."""
    first, *others = ranks.words(run)
    for rank, other in enumerate(others, 1):
        if different := checkpoint.differences(first, other):
            raise ValueError(f"rank {rank} was given another run than rank 0: {'; '.join(different)}")


def _evaluate(
    space: Space, held_out: Source, store: FeatureStore | None, average: Averages | None, run: Mapping[str, Any]
) -> Mapping[str, Any]:
    from coembed.evaluation import evaluate

    training, card = space.training, space.card
    space.card = {**card, "runs": [*card.get("runs", []), run]}  # what this run trains is not emergent
    try:
        with space.cached(store), average.applied() if average is not None else nullcontext():
            return evaluate(space, held_out)
    finally:
        space.card = card
        space.train(training)


def _sign(space: Space, tasks: Sequence[Task], towers: Sequence[str], run: dict[str, Any], history: History) -> None:
    """Write the run into the space: what trained, which sizes are now declared, the card."""
    for name in towers:
        tower = space[name]
        if tower.locked:
            continue
        tower.trained = tower.trained or tower.train_word != "none"
        dims = {size for task in tasks if name in task.towers for size in task.dims if size < space.dim}
        tower.declare(dims, {cut for task in tasks if name in task.towers for cut in task.cuts(space, name)})
    space.card.setdefault("runs", []).append(run)
    if history.figures:
        space.card["figures"] = dict(history.figures)
