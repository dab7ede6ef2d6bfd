"""The parts shelf as a whole: what it exports, and what it does not drag in."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_an_encoder_of_vectors_imports_no_tokenizer():
    code = "import sys, coembed.nn; coembed.nn.BodyEncoder, coembed.nn.pack; assert 'tokenizers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_shelf_is_complete():
    import coembed.nn

    for name in coembed.nn.__all__:
        assert getattr(coembed.nn, name) is not None
        assert f"`{name}`" in (coembed.nn.__doc__ or "")
    with pytest.raises(AttributeError, match="no attribute 'Transformers'"):
        _ = coembed.nn.Transformers
