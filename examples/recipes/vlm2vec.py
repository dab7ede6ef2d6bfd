"""VLM2Vec: one causal model embeds any mix of picture and text, and the instruction says what is asked of it.

Jiang et al. 2024, VLM2Vec (arXiv 2410.05160, ICLR 2025), section 3: the query is a picture, a task's instruction and a
text in one sequence, whose last token's state is the vector; the target goes through the same model; InfoNCE from query
to target; gradient caching makes the batch that the loss sees larger than what memory holds. There the model is a
trained vision-language model of billions of weights; here it is a small one from scratch (image/mixed), and the tasks
are asked of scikit-learn's handwritten digits: which digit is this, is it even or odd, which of two is larger, find a
picture of a seven. The texts that answer any task lie in one pool, so that a picture without an instruction has one
answer to two questions: at most half of them are right. The score is precision@1; ties count against it.

Held out are pictures, by their number; `shuffled` is trained with instructions drawn at random.

    pip install coembed coembed-image coembed-bench scikit-learn
    python examples/recipes/vlm2vec.py [--quick] [--json]
"""

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

import coembed
from coembed import Record, Records, Space, Tower
from coembed.tasks import Contrast
from coembed_bench.recipe import Claim, Recipe, main

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ASKED = {"digit": "which digit? ", "parity": "even or odd? ", "larger": "the larger one? ", "find": "find a picture. "}
DIGITS = load_digits()


def picture(*numbers: int) -> Image.Image:
    """One digit, or two side by side, 16 x 16 pixels."""
    halves = np.concatenate([DIGITS.images[n] for n in numbers], 1) * 15.9
    return Image.fromarray(halves.astype(np.uint8)).convert("RGB").resize((16, 16))


def records(task: str, numbers: list[int], rng: np.random.Generator) -> list[Record]:
    """A task's queries and targets; a query is {"image", "text"}, and the text is only what the task hides behind."""
    rows = []
    for n in numbers:
        digit, other = int(DIGITS.target[n]), int(rng.choice(numbers))
        if task == "find":
            query, target = {"text": WORDS[digit]}, {"image": picture(n)}
        elif task == "larger":
            query = {"image": picture(n, other)}
            target = {"text": WORDS[max(digit, int(DIGITS.target[other]))]}
        else:
            query = {"image": picture(n)}
            target = {"text": WORDS[digit] if task == "digit" else ("an odd one" if digit % 2 else "an even one")}
        label = target.get("text") or WORDS[digit]
        bare = query["text"] if "text" in query else query["image"].tobytes()
        extra = {"task": task, "bare": bare}
        rows.append(Record({"query": query, "target": target}, id=f"{task}-{n}", label=label, extra=extra))
    return rows


def instructed(rows: list[Record], how: str, rng: np.random.Generator) -> Records:
    """The task's instruction before each query's text; another task's, or none."""
    found = []
    for row in rows:
        task = {"right": row.extra["task"], "shuffled": rng.choice([*ASKED])}.get(how)
        asked = {**row["query"], "text": (ASKED[task] if task else "") + row["query"].get("text", "")}
        found.append(Record({**row.items, "query": asked}, id=row.id, label=row.label, extra=row.extra))
    return Records(found)


def model(seed: int, **options: float) -> Space:
    """One encoder behind both towers."""
    encoder = coembed.load("image/mixed", size=16, patch=4, dim=64, layers=2, heads=4, ff=128, seed=seed, **options)
    return Space({name: Tower(encoder, "identity", train="all") for name in ("query", "target")})


def precision(space: Space, source: Records) -> dict[str, float]:
    """Precision@1 of each task among the targets of all tasks that are texts, or pictures, as its own are.

    A tie is a miss, and so is NaN. A target that is the query itself, but for the instruction, is left out.
    """
    targets = {row.id: row["target"] for row in source}
    pool = list(targets.values())
    distinct = {tuple(t.items()) if "text" in t else i: i for i, t in enumerate(pool)}
    at = list(distinct.values())
    labels = [source[i].label for i in at]
    kinds = ["image" if "image" in pool[i] else "text" for i in at]
    shown = [pool[i].get("text") or pool[i]["image"].tobytes() for i in at]
    queries = space.encode("query", [row["query"] for row in source]).vectors
    scores = queries @ space.encode("target", [pool[i] for i in at]).vectors.T
    right: dict[str, list[bool]] = {task: [] for task in ASKED}
    for row, score in zip(source, scores, strict=True):
        kind = "image" if "image" in row["target"] else "text"
        pool_of_it = torch.tensor([b == kind and c != row.extra["bare"] for b, c in zip(kinds, shown, strict=True)])
        gold = torch.tensor([label == row.label for label in labels])
        best, other = score[gold & pool_of_it].max(), score[~gold & pool_of_it].max()
        right[row.extra["task"]].append(bool(best > other))
    return {task: float(np.mean(hits)) for task, hits in right.items() if hits}


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """The same model, pictures and steps with the right instruction, none, and one drawn at random."""
    rng, steps = np.random.default_rng(seed), 4 if quick else 400
    order = np.random.default_rng(0).permutation(len(DIGITS.target)).tolist()
    held, train = order[:200], order[200:600] if quick else order[200:]
    learned = {task: records(task, train, rng) for task in ASKED}
    tested = [row for task in ASKED for row in records(task, held, rng)]
    found = {}
    for arm, how in (("instructed", "right"), ("without", "none"), ("shuffled", "shuffled")):
        space = model(seed, dropout=0.0)
        some = instructed([row for rows in learned.values() for row in rows], how, rng)
        task = Contrast(some, ("query", "target"), coembed.load("infonce", directions="a->b"), same="label")
        coembed.fit(space, tasks=[task], steps=steps, batch_size=96, lr=2e-3, seed=seed)
        each = precision(space, instructed(tested, how, rng))
        two = (each["digit"] + each["parity"]) / 2  # of the same pictures
        found[arm] = {"digit and parity": two, **each, "mean of tasks": float(np.mean([*each.values()]))}
    return found


def a_cached_gradient_is_the_whole_batch_s() -> None:
    """One step in micro-batches of 3 ends with the weights of one step at once, in float64."""
    ends = []
    for rows in (None, 3):
        space = model(0, dropout=0.0).double()
        source = instructed(records("digit", [*range(12)], np.random.default_rng(0)), "right", np.random.default_rng(0))
        task = Contrast(source, ("query", "target"), same="label").double()
        coembed.fit(space, tasks=[task], steps=1, batch_size=12, micro_batch=rows, warmup=0, lr=1e-3, clip=0)
        ends.append(torch.cat([p.detach().flatten() for p in space.parameters()]))
    # AdamW's first step divides a gradient by itself: where it is nearly zero, rounding decides, so a rate bounds it
    assert (ends[0] - ends[1]).abs().max() < 1e-6, (ends[0] - ends[1]).abs().max()


def padding_does_not_matter() -> None:
    """The last token is a sequence's own, whatever its neighbours in the batch are."""
    space = model(1)
    some = [{"image": picture(3), "text": "which digit? "}, {"text": "seven"}, {"image": picture(4), "text": "a" * 60}]
    together = space.encode("query", some).vectors
    assert torch.allclose(together, torch.cat([space.encode("query", [item]).vectors for item in some]), atol=1e-5)


def one_answer_to_two_questions_is_right_at_most_once() -> None:
    """Without instructions both questions of a picture are one query: the pool's best can't answer both."""
    rng = np.random.default_rng(0)
    both = [row for task in ("digit", "parity") for row in records(task, [*range(30)], rng)]
    found = precision(model(0), instructed(both, "none", rng))
    assert found["digit"] + found["parity"] <= 1


recipe = Recipe(
    method="vlm2vec",
    title="VLM2Vec, four tasks on handwritten digits under instructions",
    run=run,
    claims=[
        Claim("instructions tell two questions about one picture apart", "digit and parity", "instructed", "without"),
        Claim("the right instruction, not any text", "digit and parity", "instructed", "shuffled"),
        Claim("over all four tasks", "mean of tasks", "instructed", "without"),
    ],
    invariants=[
        a_cached_gradient_is_the_whole_batch_s,
        padding_does_not_matter,
        one_answer_to_two_questions_is_right_at_most_once,
    ],
)

if __name__ == "__main__":
    main(recipe)
