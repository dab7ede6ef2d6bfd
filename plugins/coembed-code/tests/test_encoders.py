"""Every encoder of the package, built tiny and offline: what all must keep, and the one that trains from scratch."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import coembed_code
from coembed.items import BadItem
from coembed.plugins import CoembedWarning
from coembed.spec import resolve
from coembed_code.samples import SAMPLES
from coembed_code.transformer import CodeTransformer

SPECS = {spec.name: spec for spec in coembed_code.coembed_encoders()}
NAMES = list(SPECS)


@pytest.fixture(scope="module", params=NAMES)
def encoder(request):
    spec = SPECS[request.param]
    return resolve(spec.target).tiny(spec)


def test_batched_equals_one_by_one_in_order(encoder):
    items = [*SAMPLES, "x", "def f():\n" + "    y = 1\n" * 20]
    alone = torch.cat([encoder.encode([item]).vectors for item in items])
    for size in (1, 3, 32):
        assert torch.allclose(encoder.encode(items, batch_size=size).vectors, alone, atol=1e-5)
    back = encoder.encode(items[::-1], batch_size=4).vectors.flip(0)
    assert torch.allclose(back, alone, atol=1e-5)


def test_shape_and_difference(encoder):
    whole = encoder.encode(SAMPLES)
    assert whole.values.shape == (len(SAMPLES), 1, encoder.spec.dim or encoder.dim)
    assert len(whole.vectors.unique(dim=0)) == len(SAMPLES)
    assert encoder.encode([]).values.shape == (0, 1, encoder.dim)
    assert encoder.source is None


def test_bad_items_are_named_by_position(encoder):
    for bad in (None, 3, b"bytes", ["def f(): pass"], "lone \ud800"):
        with pytest.raises(BadItem, match="item 2") as caught:
            encoder.encode([*SAMPLES[:2], bad, SAMPLES[2]], batch_size=2)
        assert caught.value.position == 2
    seen = []
    rows = encoder.encode([SAMPLES[0], None, SAMPLES[1]], on_error=seen.append)
    assert [error.position for error in seen] == [1] and rows.present.tolist() == [True, False, True]


def test_batches_pickle_for_workers(encoder):
    batch = encoder.collate(SAMPLES[:2])
    copied = pickle.loads(pickle.dumps(batch))
    assert all(torch.equal(copied[key], batch[key]) for key in batch)


def test_layers_exit_early(encoder):
    assert torch.equal(encoder.encode(SAMPLES, layer=encoder.layers).vectors, encoder.encode(SAMPLES).vectors)
    assert not torch.allclose(encoder.encode(SAMPLES, layer=1).vectors, encoder.encode(SAMPLES).vectors, atol=1e-3)
    assert len(encoder.blocks()) == encoder.layers


def test_files_become_functions(encoder, tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def f(): pass\n\nclass A:\n    def g(self):\n        return 1\n")
    assert encoder.read(path) == ["def f(): pass", "def g(self):\n    return 1"]
    path.write_bytes(b"\0\1")
    with pytest.raises(ValueError, match=r"a\.py.*binary"):
        encoder.read(path)


def test_the_package_is_light_and_its_names_are_its_own():
    code = (
        "import sys, coembed_code; specs = list(coembed_code.coembed_encoders());"
        "assert all(spec.name.startswith('code/') and spec.license for spec in specs);"
        "heavy = {'torch', 'numpy', 'transformers', 'tokenizers', 'tree_sitter', 'coembed_text'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    folder = str(Path(coembed_code.__file__).parents[1])
    command = f"import sys; sys.path.insert(0, {folder!r}); " + code
    out = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def small(**changes) -> CodeTransformer:
    return CodeTransformer(SPECS["code/transformer"], **{"dim": 32, "layers": 2, "vocab_size": 700} | changes)


def test_the_vocabulary_is_trained_once():
    encoder = small()
    assert not encoder.fitted and encoder.tokenizer.vocab_size == 261  # bytes
    before = encoder.size(SAMPLES[0])
    encoder.fit_tokenizer([*SAMPLES] * 4)
    assert encoder.fitted and encoder.tokenizer.vocab_size <= 700 and encoder.size(SAMPLES[0]) < before
    assert encoder.embed_tokens.vocab_size == encoder.tokenizer.vocab_size
    with pytest.raises(ValueError, match="settled"):
        encoder.fit_tokenizer(SAMPLES)
    assert torch.allclose(encoder.encode(["a + b"]).vectors, encoder.encode(["a+b"]).vectors)
    with pytest.raises(BadItem, match="item 1"):
        small().fit_tokenizer(["x", 3])


def test_a_trained_vocabulary_is_saved_with_the_weights(tmp_path):
    encoder = small(lowercase=True)
    encoder.fit_tokenizer([*SAMPLES] * 4)
    encoder.save(tmp_path)
    other = small(lowercase=True, seed=5)
    other.restore(tmp_path)
    assert torch.equal(other.encode(SAMPLES).vectors, encoder.encode(SAMPLES).vectors)
    assert other.fingerprint() == encoder.fingerprint() != small(lowercase=True).fingerprint()
    assert torch.allclose(other.encode(["userName"]).vectors, other.encode(["user_name"]).vectors)


def test_the_seed_decides_the_weights_and_long_code_is_cut_with_a_warning():
    assert small(seed=1).fingerprint() == small(seed=1).fingerprint() != small(seed=2).fingerprint()
    encoder = small(max_length=16)
    with pytest.warns(CoembedWarning, match="longer than max_length=16"):
        encoder.encode(["x = 1\n" * 100])


def test_it_learns_to_tell_renamed_functions_from_others():
    """A few steps of contrast on functions and their renamed twins: held-out twins end up nearer than strangers."""
    names = ["alpha", "beta", "gamma", "delta", "total", "count", "value", "item", "node", "index"]
    bodies = ["return {0} + 1", "print({0})", "raise ValueError({0})", "yield {0}", "del {0}", "assert {0} is None"]

    def function(body: int, name: int) -> str:
        return f"def f({names[name]}):\n    " + bodies[body].format(names[name])

    encoder = small(dropout=0.0)
    encoder.fit_tokenizer([function(b, n) for b in range(6) for n in range(10)])
    optimizer = torch.optim.AdamW(encoder.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        left, right = (torch.randint(0, 7, (6,), generator=generator).tolist() for _ in range(2))
        a, b = (
            encoder.pooling(encoder(encoder.collate([function(i, n) for i, n in enumerate(side)]))).normalize().vectors
            for side in (left, right)
        )
        loss = torch.nn.functional.cross_entropy(a @ b.T / 0.1, torch.arange(6))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    a, b = (encoder.encode([function(i, n) for i in range(6)]).normalize().vectors for n in (8, 9))
    assert ((a @ b.T).argmax(1) == torch.arange(6)).all()
