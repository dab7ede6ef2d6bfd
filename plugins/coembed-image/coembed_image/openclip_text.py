"""The text half of any open_clip model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder, OnError
from coembed.nn.pooling import Mean
from coembed.spec import EncoderSpec
from coembed_image import openclip_checkpoint as checkpoint
from coembed_image.openclip_build import build
from coembed_image.openclip_image import TINY
from coembed_image.openclip_text_body import parts
from coembed_image.openclip_tokens import Cuts, Tokens, checked


class OpenClipText(Encoder):
    """The text half of an open_clip model, its image half neither built nor read; arguments as `OpenClipImage`.

    Tokens are the transformer's after its last norm; pooling is the checkpoint's own, so that `encode` gives what
    open_clip's `encode_text` gives, not normalised. A checkpoint without pooling (`pool_type` "none") gives all its
    vectors. Longer texts are cut to the context, with a CoembedWarning that counts them. Architectures and tokenisers
    from Hugging Face are read from the checkpoint's own folder.
    Raises ValueError naming an argument, or WeightsError naming the file or repository.

    >>> spec = EncoderSpec(name="demo/clip-text", modality="text", dim=None, target="demo:Clip")
    >>> encoder = OpenClipText.tiny(spec)
    >>> encoder.encode(["a red heart", "two dogs"]).values.shape, encoder.layers
    (torch.Size([2, 1, 16]), 2)
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        pretrained: str | None = None,
        weights: str | None = None,
        folder: str | None = None,
        config: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        found = checkpoint.locate(
            spec, model=model, pretrained=pretrained, weights=weights, folder=folder, config=config, seed=seed
        )
        tokens = Tokens(spec.name, found)
        body, pooling, finish = parts(build(spec.name, found, "text", seed))
        super().__init__(spec if finish is None else dataclasses.replace(spec, output="multivector"))
        self.checkpoint = found
        self.source = found.source
        self._files = _carried(found)
        self.tokens = tokens
        self.body = body
        self.finish = finish
        self.pooling = pooling or Mean()
        self.layers = body.layers
        self._cuts = Cuts()
        self.eval()
        with torch.no_grad():
            row = self({"ids": self.tokens([""])[0]})
            self.token_dim, self.dim = row.dim, self.pooling(row).dim

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Strings to `ids` [B, T] int64; raises BadItem, warns of texts that were cut."""
        ids, cut = self.tokens(checked(items, prompt))
        self._cuts.add(self.spec.name, cut, len(items), self.tokens.context)
        return {"ids": ids[:, : self.body.needed(ids)]}

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Ids to tokens `[B, T, W]`; `layer=k` stops after block k."""
        rows: Embedding = self.body(batch["ids"], layer)
        rows = rows if self.finish is None else self.finish(rows)
        return dataclasses.replace(rows, sizes=self.sizes)

    def run(
        self,
        items: Sequence[Any],
        finish: Callable[[Embedding], Embedding],
        *,
        layer: int | None = None,
        prompt: str = "",
        batch_size: int = 32,
        progress: bool = False,
        on_error: OnError = "raise",
    ) -> list[tuple[list[int], Embedding]]:
        """As for any encoder, and one warning at the end if texts were cut."""
        with self._cuts.counting(self.spec.name, len(items), self.tokens.context):
            return super().run(
                items,
                finish,
                layer=layer,
                prompt=prompt,
                batch_size=batch_size,
                progress=progress,
                on_error=on_error,
            )

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks, input side first."""
        return self.body.blocks()

    def read(self, path: Path) -> list[Any]:
        """The whole of a UTF-8 text file as one item; raises ValueError for other files."""
        try:
            text = Path(path).read_bytes().decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
        if not text or "\0" in text:
            raise ValueError(f"{path}: {'a binary file' if text else 'holds no text'}")
        return [text]

    def save_assets(self, folder: Path) -> None:
        """Write open_clip_config.json and what the checkpoint's folder holds of tokeniser and architecture."""
        text = json.dumps(self.checkpoint.to_json(), indent=2, sort_keys=True)
        (folder / checkpoint.CONFIG).write_text(text + "\n", encoding="utf-8")
        for name in self._files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(str(self.checkpoint.folder)) / name, folder / name)

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote, without the checkpoint that it once came from."""
        encoder = cls(spec, folder=str(folder), seed=0)
        encoder.restore(folder)
        return encoder

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two blocks of width 16, 16 tokens at most, CLIP's own vocabulary."""
        kwargs: dict[str, Any] = {"config": TINY, "seed": 0}
        return cls(dataclasses.replace(spec, dim=None, layers=None, weights=None, kwargs=kwargs), **kwargs)

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """A few captions."""
        return ["a red heart", "two dogs in the snow", "Größe, 東京", "x"]


def _carried(found: checkpoint.Checkpoint) -> list[str]:
    """The files of a checkpoint's folder that the text half needs besides its config and weights."""
    config = found.model["text_cfg"]
    wanted = list(checkpoint.TOKENIZER) if config.get("hf_tokenizer_name") else []
    wanted += [f"{config['hf_model_name']}/config.json"] if config.get("hf_model_name") else []
    return [name for name in wanted if found.folder is not None and (found.folder / name).is_file()]
