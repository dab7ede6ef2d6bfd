"""The README.md of a saved space: what it is, what it was trained on, its figures, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coembed.space import Space


def render(space: Space, towers: Mapping[str, Mapping[str, Any]]) -> str:
    """The card as Markdown; `towers` is what space.json says of them."""
    rows = []
    for name, entry in towers.items():
        encoder = space[name].encoder
        weights = "in this folder" if entry["copied"] else str(entry["source"])
        license = encoder.spec.license or "not stated"
        rows.append(
            f"| {name} | {encoder.spec.modality} | `{encoder.spec.name}` | {weights} | {entry['train']} | {license} |"
        )
    first = next(iter(towers))
    parts = [
        "---\nlibrary_name: coembed\ntags: [coembed, embeddings, multimodal]\n---\n",
        f"# A coembed space of {len(towers)} towers\n",
        f"Items of {', '.join(towers)} as unit vectors of {space.dim} dimensions.\n",
        "| tower | modality | encoder | weights | trained | licence |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n",
        _sizes(space),
        _made(space.card.get("made", [])),
        _runs(space.card.get("runs", [])),
        _figures(space.card.get("figures", {})),
        "## Use\n\n```python\nimport coembed\n\n"
        f'space = coembed.Space.load("this folder")\nvectors = space.encode("{first}", items)\n```\n',
    ]
    return "\n".join(part for part in parts if part)


def _sizes(space: Space) -> str:
    """What the vectors of each tower may be cut to, a line a tower that was trained for it."""
    lines = []
    for name in space:
        tower = space[name]
        sizes = [f"the first {', '.join(map(str, tower.sizes))} dimensions"] if tower.sizes else []
        layers = dict.fromkeys(layer for layer, _ in tower.exits)
        for layer in layers:
            dims = ", ".join(str(dim) for exit, dim in tower.exits if exit == layer)
            sizes.append(f"after layer {layer} of {tower.encoder.layers}: {dims}")
        lines += [f"- {name}: {'; '.join(sizes)}"] if sizes else []
    return "## Sizes\n\n" + "\n".join(lines) + "\n" if lines else ""


def _runs(runs: list[Mapping[str, Any]]) -> str:
    if not runs:
        return ""
    lines = []
    for run in runs:
        tasks = "; ".join(_task(task) for task in run["tasks"])
        lines.append(f"- {tasks}; {run['steps']} steps of {run['batch_size']}, seed {run['seed']}")
    return "## Training\n\n" + "\n".join(lines) + "\n"


def _task(task: Mapping[str, Any]) -> str:
    what = f"{task.get('objective', task['task'])} on {' and '.join(task['towers'])}"  # a pretext has no objective
    return what + (f", {task['records']} records" if "records" in task else "")


def _made(steps: list[Mapping[str, Any]]) -> str:
    """How the space was merged or grown from others, a line a step."""
    lines = []
    for step in steps:
        given = ", ".join(f"{part['role']} {part['space']} ({part['weights']})" for part in step.get("from", []))
        plain = {key: value for key, value in step.items() if isinstance(value, (str, int, float)) and key != "by"}
        settings = ", ".join(f"{key} {value}" for key, value in plain.items())
        weights = f", weights {', '.join(f'{w:g}' for w in step['weights'])}" if step.get("weights") else ""
        lines.append(f"- {step['by']}: {settings}{weights}" + (f"; of {given}" if given else ""))
    return "## Made from other spaces\n\n" + "\n".join(lines) + "\n" if lines else ""


def _figures(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Held-out figures, a row a direction, only the columns that all rows share."""
    if not figures:
        return ""
    keys = [key for key in next(iter(figures.values())) if all(key in row for row in figures.values())]
    head = "| direction | " + " | ".join(keys) + " |\n|---|" + "---|" * len(keys) + "\n"
    rows = [f"| {name} | " + " | ".join(_cell(row[key]) for key in keys) + " |" for name, row in figures.items()]
    return "## Held-out figures\n\n" + head + "\n".join(rows) + "\n"


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
