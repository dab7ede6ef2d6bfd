"""`code/codet5p`: CodeT5+ embedding checkpoints, a T5 encoder and a projection, without the code they bring along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from transformers import AutoConfig, AutoModel, T5Config, T5EncoderModel

from coembed.nn import seeded
from coembed.spec import EncoderSpec
from coembed.weights import read
from coembed_code.hf import HfCode
from coembed_text.layout import Layout, Step
from coembed_text.packaged import CheckpointError

__all__ = ["CodeT5p", "CodeT5pConfig", "CodeT5pEncoder"]

_IDENTITY = "torch.nn.modules.linear.Identity"


class CodeT5pConfig(T5Config):
    """T5's configuration under the name that these checkpoints use, and the width of their projection."""

    model_type = "codet5p_embedding"
    embed_dim: int = 256
    is_encoder_decoder: bool = False


class CodeT5pEncoder(T5EncoderModel):
    """T5's encoder; the projection that the file holds as well belongs to the pooling."""

    config_class = CodeT5pConfig
    _keys_to_ignore_on_load_unexpected = [r"^proj\.", r"decoder"]  # noqa: RUF012  (as transformers writes it)


# The checkpoints name this architecture, which transformers does not have: with these lines it reads them by our
# classes instead of by theirs.
AutoConfig.register("codet5p_embedding", CodeT5pConfig, exist_ok=True)
AutoModel.register(CodeT5pConfig, CodeT5pEncoder, exist_ok=True)


class CodeT5p(HfCode):
    """Encode code or text with a CodeT5+ embedding checkpoint.

    One vector is the first token, projected and at unit length (Wang et al. 2023, CodeT5+, section 3.3); token
    features are T5's, before the projection. The arguments are HfText's. Raises CheckpointError (a ValueError) for a
    checkpoint that can't be found, is not pinned, has no safetensors or no projection.

    >>> spec = EncoderSpec(name="code/codet5p", modality="code", dim=256, target="coembed_code.codet5p:CodeT5p")
    >>> encoder = CodeT5p.tiny(spec)
    >>> encoder.encode(["def f(): pass"]).vectors.norm().round(decimals=3), encoder.token_dim
    (tensor(1.), 64)
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        pooling: str | Sequence[str] = "cls",
        normalize: bool = True,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            spec,
            model=model,
            revision=revision,
            max_length=max_length,
            pooling=pooling,
            normalize=normalize,
            prompts=prompts,
        )

    def _set_head(self, layout: Layout, folder: Path | None) -> None:
        """Put the projection between the pooling and what follows it; its weights lie beside the transformer's."""
        if not any(step.kind == "dense" for step in layout.steps):  # a saved layout has it already
            config: Any = self.model.config
            width = config.d_model * len(layout.pooling)
            projection = Step("dense", width=width, out=config.embed_dim, activation=_IDENTITY)
            layout = replace(layout, steps=(projection, *layout.steps))
        with seeded(0):  # its random start is written over, and must not cost the caller's generator a draw
            super()._set_head(layout, None)
        if folder is not None:
            self._load_projection(folder)

    def _load_projection(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.safetensors")):
            tensors = read(path)
            if "proj.weight" in tensors:
                linear = self.pooling[1].linear  # type: ignore[index]
                try:
                    linear.load_state_dict({key: tensors[f"proj.{key}"].float() for key in ("weight", "bias")})
                except (KeyError, RuntimeError) as error:
                    raise CheckpointError(f"{path}: its projection does not fit its config.json: {error}") from error
                return
        raise CheckpointError(f"{folder}: no weights of a projection (proj.weight): not a CodeT5+ embedding checkpoint")

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers over bytes with random weights, projected to the spec's width: no network, no download."""
        from coembed_code.tiny import write_codet5p

        with TemporaryDirectory() as folder:
            write_codet5p(Path(folder), embed_dim=spec.dim or 64)
            encoder = cls(spec, model=folder)
        encoder.source = None  # made here
        return encoder
