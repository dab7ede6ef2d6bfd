"""The encoder that the conformance kit teaches with this package's pretexts."""

from __future__ import annotations

from collections.abc import Sequence

from coembed.nn import TransformerEncoder

__all__ = ["Strings"]


class Strings(TransformerEncoder):
    """Any text, from scratch."""

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few texts."""
        return ["the red cat runs home", "rain"]
