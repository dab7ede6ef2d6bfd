"""Reranking: the first candidates scored anew by something slower that reads query and candidate together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coembed.arguments import number
from coembed.device import choose_device
from coembed.index import Hit, Index
from coembed.plugins import PluginError
from coembed_retrieval.stages import Encodes, Transform, text_of

Score = Callable[[Any, Sequence[Hit]], Sequence[float]]  # one query and its candidates to a score each
_PINNED = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]


@dataclass(frozen=True)
class Rerank:
    """A stage of reranking: `by` scores the first `depth` candidates of a query; what it does not read is dropped.

    `by` is any callable (query, hits) -> one score a hit, higher is better.

    >>> Rerank(lambda query, hits: [len(hit.id) for hit in hits], depth=20, name="longest id").depth
    20
    """

    by: Score
    depth: int = 50
    name: str = ""

    def __post_init__(self) -> None:
        number("depth", self.depth, whole=True, least=1)

    @property
    def label(self) -> str:
        """What reports call it."""
        own = getattr(self.by, "name", None) or getattr(self.by, "__name__", None) or type(self.by).__name__
        return self.name or str(own)

    def __call__(self, query: Any, hits: Sequence[Hit]) -> list[Hit]:
        """The first `depth` hits in their new order; equal scores keep the old one.

        Raises ValueError naming the stage if there is not one finite score a hit.
        """
        hits = hits[: self.depth]
        if not hits:
            return []
        scores = torch.as_tensor(self.by(query, hits), dtype=torch.float64).flatten()
        if len(scores) != len(hits) or not scores.isfinite().all():
            raise ValueError(f"reranker {self.label}: {len(hits)} hits, but {len(scores)} scores, or some not finite")
        scored = [Hit(hit.id, score, hit.payload) for hit, score in zip(hits, scores.tolist(), strict=True)]
        return sorted(scored, key=lambda hit: -hit.score)


class LateInteraction:
    """MaxSim of the query's tokens with the candidates', whose vectors lie in an index of multi-vectors.

    The index holds the same ids as the one that found the candidates: `space.index("code", items, ids=ids)` of a space
    whose towers have `pool="none"`. A candidate that it lacks is an error, not a low score. `transforms` as in `Dense`.
    Source: Khattab and Zaharia 2020, ColBERT, section 3.5 (re-ranking).
    """

    def __init__(
        self,
        space: Encodes,
        tower: str,
        index: Index,
        *,
        transforms: Sequence[Transform] = (),
        role: str | None = None,
        name: str = "late interaction",
    ) -> None:
        self.space, self.tower, self.index = space, tower, index
        self.transforms, self.role, self.name = tuple(transforms), role, name
        if index.recall < 1:
            raise ValueError(
                f"LateInteraction: an index of recall {index.recall} may miss a candidate: use an exact one"
            )

    def __call__(self, query: Any, hits: Sequence[Hit]) -> list[float]:
        """One MaxSim a hit."""
        rows = self.space.encode(self.tower, [query], role=self.role)
        for transform in self.transforms:
            rows = transform(rows)
        ids = [hit.id for hit in hits]
        found = {hit.id: hit.score for hit in self.index.search(rows, k=len(ids), where=ids)[0]}
        if missing := [name for name in ids if name not in found]:
            raise ValueError(
                f"LateInteraction: its index has no {missing[0]!r}: fill it with the ids of the first stage"
            )
        return [found[name] for name in ids]


class CrossEncoder:
    """A sequence classifier of transformers that reads query and text together; its logit is the score.

    `model` is a folder or `org/repo@<40-hex revision>`: a branch moves, and scores would move with it. One label gives
    its logit, two give the second's less the first's. `text` says where a hit keeps its text. Pairs longer than
    `max_length` tokens are cut at the text's end. Raises ValueError for a model that is not pinned or has more labels,
    PluginError without transformers.
    Source: Nogueira and Cho 2019, Passage Re-ranking with BERT.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        text: Callable[[Hit], str] = text_of,
        max_length: int = 512,
        batch_size: int = 32,
        device: str | torch.device = "auto",
        name: str = "cross-encoder",
    ) -> None:
        try:
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise PluginError("a cross-encoder needs pip install 'coembed-retrieval[rerank]'") from error
        number("max_length", max_length, whole=True, least=8)
        number("batch_size", batch_size, whole=True, least=1)
        folder = _located(model)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True).eval()
        labels = int(self.model.config.num_labels)
        if labels > 2:
            raise ValueError(f"cross-encoder {model}: {labels} labels; one or two (wrong, right) are expected")
        self.model.to(choose_device(device))
        self.source, self.text, self.name = str(model), text, name
        self.max_length, self.batch_size = max_length, batch_size

    @torch.inference_mode()
    def __call__(self, query: str, hits: Sequence[Hit]) -> Tensor:
        """One score a hit `[N]`."""
        if not isinstance(query, str):
            raise TypeError(f"{self.name}: it reads texts, the query is {type(query).__name__}")
        texts = [self.text(hit) for hit in hits]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # like lengths together: less padding
        scores = torch.zeros(len(texts))
        for start in range(0, len(texts), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = self.tokenizer(
                [query] * len(rows),
                [texts[row] for row in rows],
                padding=True,
                truncation="only_second",
                max_length=self.max_length,
                return_tensors="pt",
            ).to(self.model.device)
            logits = self.model(**batch).logits.float().cpu()  # [n, 1 or 2]
            scores[torch.tensor(rows)] = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        return scores


def _located(model: str | Path) -> Path:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    match = _PINNED.fullmatch(str(model))
    if match is None:
        raise ValueError(f"cross-encoder {model}: neither a folder here nor pinned: org/repo@<40 hexadecimal digits>")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise PluginError("a cross-encoder from a hub needs pip install 'coembed-retrieval[rerank]'") from error
    return Path(snapshot_download(match["repo"], revision=match["revision"], allow_patterns=_WANTED))
