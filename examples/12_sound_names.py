"""Sound names: 130 short sounds beside their names ("drum cymbal closed"); words find sounds that never trained.

A small transformer on mel spectrograms learns from random weights beside MiniLM, which reads the names. So few sounds
make uncertain figures: each is the mean of three splits, takes of one sound always on one side, and stands beside
chance and beside the same transformer left at its random weights, where only the heads train. With whole families
held out nothing is found: of a tabla nothing was ever heard.

    pip install coembed coembed-audio coembed-text 'coembed-samples[sounds]'
"""

import coembed
from coembed import Space, Tower

text = coembed.load("text/minilm")
METRICS = ("R@5", "MRR")


def towers(seed, train):
    ear = coembed.load("audio/mel", dim=96, layers=1, seed=seed)
    scale = {"standardize": train == "none"}  # of features that stay as they are
    audio = Tower(ear, "linear", dim=384, train=train, options=scale, seed=seed)
    return Space({"audio": audio, "text": Tower(text, "linear", dim=384)})


def run(split_by, train, seed):
    sounds = coembed.load("samples/sounds", split_by=split_by)
    seen, held_out = sounds.split(0.3, seed=seed)
    space = towers(seed, train)
    rates = {"audio": 3e-3, "text": 2e-4}
    coembed.fit(space, seen, held_out=held_out, epochs=12, batch_size=32, lr=rates, ema=0.95, seed=seed)
    return space, held_out


print("held out by    trains          direction      R@5   chance    MRR   chance")
for split_by, train in (("sound", "none"), ("sound", "all"), ("family", "all")):
    runs = [run(split_by, train, seed) for seed in range(3)]
    for direction in ("text->audio", "audio->text"):
        figures = [space.card["figures"][direction] for space, _ in runs]
        means = [sum(f[k] for f in figures) / len(runs) for m in METRICS for k in (m, f"chance_{m}")]
        what = "heads only" if train == "none" else "heads and ear"
        print(f"{split_by:<15}{what:<16}{direction:<12}", "".join(f"{value:8.2f}" for value in means))
    if (split_by, train) == ("sound", "all"):
        heard = runs

space, held_out = heard[0]
print("\nthe nearest of the sounds that the first of three runs held out:")
index = space.index("audio", [record["audio"] for record in held_out], ids=[record.id for record in held_out])
for query in ("drum", "bass", "tabla"):
    hits = index.search(space.encode("text", [query]), k=4)[0]
    print(f"  {query:<7} {', '.join(hit.id for hit in hits)}")
