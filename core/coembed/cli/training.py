"""What `coembed align` does once it has a plan: split, build, fit, measure, save; and go on after a stop."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import assemble, message, output
from coembed.cli.curriculum import build_stages
from coembed.runfile import Run
from coembed.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coembed.sources import Records, Source
    from coembed.space import Space
    from coembed.training.distributed import Ranks


FREE = ("eval_every", "checkpoint_every", "checkpointing", "tracker")  # settings that change no bit of what is trained


def train(plan: Run, *, restart: bool = False, push: str | None = None) -> dict[str, Any] | None:
    """Run a plan; returns what `coembed align --json` prints. The space then goes to the model repository `push`.

    Of several processes, as torchrun starts them, all train and the first alone prints, writes and returns something.
    Raises ResumeError if the folder holds a run of another plan, RankError naming the process if one of several fails,
    and whatever building or training raises.
    """
    from coembed.training import distributed

    ranks = distributed.join(cpu=plan.device == "cpu")
    if ranks.world == 1:
        return _train(plan, restart, push, ranks)
    try:
        with nullcontext() if ranks.main else redirect_stderr(io.StringIO()):
            result = _train(plan, restart, push, ranks)
    except Exception as error:
        where = f"rank {ranks.rank} of {ranks.world}"
        raise distributed.RankError(f"{where}: {message(error).removeprefix(f'{where}: ')}") from error
    distributed.leave()
    return result if ranks.main else None


def _train(plan: Run, restart: bool, push: str | None, ranks: Ranks) -> dict[str, Any]:
    import torch

    from coembed import fit

    assert plan.out is not None
    out, seed = plan.out, int(plan.fit.get("seed", 0))
    if ranks.world > 1 and not torch.cuda.is_available():
        plan = replace(plan, device="cpu")
    check(out, plan, restart)  # before the long work
    ranks.wait()  # nobody writes before all have looked
    names = [source.name for source in plan.sources]
    whole = assemble.open_sources(plan.sources)
    sources, held = assemble.split(whole, names, plan.held_out, seed)
    space = assemble.build_space(plan, seed)
    tasks = assemble.build_tasks(plan, space, sources)
    stages = build_stages(plan, tasks)
    announce(plan, space, sources, held)
    if ranks.main:
        claim(out, plan, restart)
    ranks.wait()
    try:
        history = fit(space, tasks=tasks, stages=stages, held_out=held, out=out, progress=True, **plan.fit)
    except KeyboardInterrupt:
        output.note(f"Stopped. The same command goes on from the last checkpoint in {out}.")
        raise
    space.card["split"] = {"held_out": plan.held_out, "seed": seed}
    if ranks.main:
        space.save(out)
        if push is not None:
            output.note(f"Uploaded to {space.push_to_hub(push, private=True)}")
    ranks.wait()
    return {
        "out": str(out),
        "steps": len(history.losses),
        "loss": history.losses[-1] if history.losses else None,
        "resumed_at": history.resumed_at,
        "records": sum(len(source) for source in sources),
        "held_out": len(held) if held is not None else 0,
        "figures": dict(history.figures),
    }


def check(out: Path, plan: Run, restart: bool) -> None:
    """See that the folder is empty, or holds this very run (with `restart`: any run); raises ValueError."""
    path = out / "run.json"
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: name a folder")
    if out.is_dir() and any(out.iterdir()) and not path.exists():
        what = "a space that was not made by align" if (out / "space.json").exists() else "other files"
        raise ValueError(f"{out} holds {what}: choose another folder")
    if not path.exists() or restart:
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); --restart begins anew") from error
    if different := checkpoint.differences(before, _facts(plan)):
        raise checkpoint.ResumeError(
            f"{out} holds another run: {'; '.join(different)}. Choose another folder, or --restart to begin anew"
        )


def claim(out: Path, plan: Run, restart: bool) -> None:
    """Make the folder this run's: write down the plan; with `restart`, drop the checkpoints of the one before."""
    if restart:
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_facts(plan), indent=2, ensure_ascii=False)
    (out / "run.json").write_text(text + "\n", encoding="utf-8")


def _facts(plan: Run) -> dict[str, Any]:
    """A plan as JSON, without what may change between two starts of one run: where it runs, where it was written."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(inner) for key, inner in value.items() if key != "where"}
        return [bare(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    facts = asdict(plan)
    for key in ("out", "device"):
        del facts[key]
    facts["fit"] = {key: value for key, value in facts["fit"].items() if key not in FREE}
    plain: dict[str, Any] = json.loads(json.dumps(bare(facts)))
    return plain


def announce(plan: Run, space: Space, sources: Sequence[Source], held: Records | None) -> None:
    """Say what will train on what, and whatever may surprise, before the long work."""
    for name in space:
        tower = space[name]
        word = "the head trains" if tower.train_word == "none" else f"the head and {tower.train_word} train"
        output.note(f"tower {name}: {tower.encoder.spec.name}, {tower.encoder.dim} -> {tower.dim}, {word}")
    for source, one in zip(plan.sources, sources, strict=True):
        output.note(f"source {source.name}: {len(one)} records to train on")
        if unused := [tower for tower in one.towers if tower not in space]:
            output.note(f"  not used, since no tower has that name: {', '.join(unused)}")
        if held is not None and all(record.group is None for record in one):
            output.note("  no group column: near-duplicates may stand on both sides of the held-out split")
    if held is not None:
        output.note(f"held out: {len(held)} records, whole groups")
        if not any(sum(tower in record for tower in space) > 1 for record in held):
            raise ValueError("no held-out record has items for two towers: give more records, or held_out 0")
