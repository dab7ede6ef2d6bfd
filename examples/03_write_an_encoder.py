"""Write an encoder: any modality, no plugin, no registration.

An encoder says how a list of items becomes tensors (`collate`) and how tensors become vectors (`forward`). Everything
else (batches, order, training, saving, search) is inherited. Here the modality is colour, three numbers from 0 to 255,
and it learns to meet the names of the 148 colours of CSS.

    pip install coembed coembed-text pillow
"""

import torch
from PIL import ImageColor
from torch import nn

import coembed
from coembed import Embedding, Encoder, EncoderSpec, Tower

torch.manual_seed(0)


class Colour(Encoder):
    """Red, green and blue through one hidden layer."""

    def __init__(self, spec):
        super().__init__(spec)
        self.net = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, spec.dim))

    def collate(self, items, prompt=""):
        return {"rgb": torch.tensor(items) / 255}  # [B, 3]

    def forward(self, batch, layer=None):
        return Embedding.from_vectors(self.net(batch["rgb"]))

    @classmethod
    def samples(cls):
        return [(255, 0, 0), (0, 0, 128)]


colour = Colour(EncoderSpec(name="my/colour", modality="colour", dim=64, target="my_package:Colour"))

names = list(ImageColor.colormap)
rgb = [ImageColor.getrgb(name) for name in names]
pairs = coembed.Records.pairs(name=names, colour=rgb, ids=names, groups=[str(three) for three in rgb])
train, held_out = pairs.split(0.2)  # "gray" and "grey" are one colour, hence one group

# The colour tower trains whole. Names are bags of letter n-grams: "darkblue" has something of "dark" and of "blue".
space = coembed.Space({"colour": Tower(colour, train="all"), "name": Tower("text/tfidf", dim=64)})
history = coembed.fit(space, train, epochs=100, batch_size=64, lr=1e-2, held_out=held_out)
for direction, found in history.figures.items():
    print(f"{direction} on held-out colours: MRR {found['MRR']:.2f} (chance {found['chance_MRR']:.2f})")

index = space.index("colour", rgb, ids=names)
print("\nNames that no colour has:")
for query in ("dark blue", "light green", "red wine", "sand"):
    print(f"  {query:12} {', '.join(hit.id for hit in index.search(space.encode('name', [query]), k=5)[0])}")

print("\nA bad item is named, with its place:")
try:
    space.encode("colour", [(255, 0, 0), "red"])
except coembed.BadItem as error:
    print(f"  {error}")
