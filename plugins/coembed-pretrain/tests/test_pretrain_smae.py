"""Masked auto-encoding at several sizes: what is hidden, what each loss can see, what is left in the space."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import coembed
from coembed import Records, Space
from coembed.cli import main
from coembed_pretrain.smae import SMAE
from coembed_pretrain.words import hidden_words

TEXTS = ["the red cat runs home again", "internationalisation is long", "x", "", "two small dogs, three old fish!"]


@pytest.fixture
def taught():
    torch.manual_seed(0)
    task, encoder = SMAE.tiny(Path()), SMAE.tiny_encoder().double()
    task.build_head(encoder)
    return task.double(), encoder


@pytest.mark.filterwarnings("ignore:.*were cut")
def test_words_are_hidden_whole_and_the_encoders_are_among_the_decoders():
    torch.manual_seed(0)
    encoder = coembed.load("text/transformer", tokenizer="bpe:300", dim=16, layers=1, heads=2, max_length=16)
    encoder.fit_tokenizer(TEXTS * 3)
    words, rows = encoder.words(TEXTS), encoder.tokenize(TEXTS)
    assert [len(row) for row in words] == [len(row) for row in rows] and max(map(len, rows)) == 16
    seen = torch.zeros(len(TEXTS), 16, dtype=torch.bool)
    for _ in range(50):
        few, many = hidden_words(words, (0.2, 0.4), 16)
        assert (many | ~few).all()
        for row, numbers in enumerate(words):
            assert all(few[row, len(numbers) :] == 0) and not any(many[row, i] for i, n in enumerate(numbers) if n < 0)
            for share, hidden in ((0.2, few), (0.4, many)):
                known = {n for n in numbers if n >= 0}
                chosen = {n for i, n in enumerate(numbers) if hidden[row, i]}
                assert all(hidden[row, i] for i, n in enumerate(numbers) if n in chosen)
                assert len(chosen) == (max(1, round(share * len(known))) if known else 0)
        seen |= few
    assert all(seen[row, i] for row, numbers in enumerate(words) for i, n in enumerate(numbers) if n >= 0)


def test_the_decoder_hears_of_the_encoder_only_through_the_vector(taught):
    task, encoder = taught
    batch = task.collate_items(encoder, TEXTS[:2])
    tokens = encoder.hidden(batch, [1])[0]
    states = tokens.values.detach().requires_grad_()
    vector = task._transform(encoder.pooled(coembed.Embedding(states, tokens.mask)).vectors, 8)
    loss = task._decoded(encoder, batch, vector, encoder.embed_tokens.table.weight)
    (gradient,) = torch.autograd.grad(loss, [states])
    assert gradient[:, 0, :8].abs().sum(-1).all()  # the first token's, of the encoder's pooling, and its first columns
    assert not gradient[:, 1:].any() and not gradient[..., 8:].any()


def test_a_size_predicts_from_its_own_columns_and_layer(taught):
    task, encoder = taught
    batch = task.collate_items(encoder, TEXTS[:2])
    (small, _), (full, _) = task.losses(encoder, batch)
    for part, changed in ((encoder.body.blocks[1], (False, True)), (task.dense.weight[:, 8:], (False, True))):
        with torch.no_grad():
            for p in part.parameters() if isinstance(part, torch.nn.Module) else [part]:
                p.mul_(1.3)
        (other_small, _), (other_full, _) = task.losses(encoder, batch)
        assert (not torch.equal(small, other_small), not torch.equal(full, other_full)) == changed
        small, full = other_small, other_full


def test_the_encoder_does_not_see_what_it_predicts(taught):
    task, encoder = taught
    batch = task.collate_items(encoder, TEXTS[:1])
    at = batch["masked"][0].nonzero()[0, 0]
    other = {**batch, "ids": batch["ids"].clone()}
    other["ids"][0, at] += 1
    for one, two in zip(encoder.hidden(batch, [1, 2]), encoder.hidden(other, [1, 2]), strict=True):
        assert torch.equal(one.values, two.values)


def test_a_batch_is_the_mean_of_its_items(taught):
    task, encoder = taught
    batch = task.collate_items(encoder, TEXTS)
    rows = []
    for row in range(len(TEXTS)):
        long = int(batch["mask"][row].sum())
        rows.append(task.item_loss(encoder, {name: tensor[row : row + 1, :long] for name, tensor in batch.items()}))
    assert rows[3] == 0  # nothing to hide in an empty text
    torch.testing.assert_close(task.item_loss(encoder, batch), torch.stack(rows).mean())


def test_masked_words_alone_have_no_decoder():
    torch.manual_seed(0)
    task, encoder = SMAE(Records([]), "text", sizes=[(2, 16)], decode=False), SMAE.tiny_encoder()
    task.build_head(encoder)
    assert not any("decoder" in name for name, _ in task.named_parameters())
    assert len(task.losses(encoder, task.collate_items(encoder, TEXTS))[0]) == 1


def test_what_it_brought_is_not_saved(tmp_path):
    encoder = coembed.load("code/transformer", dim=16, layers=2, heads=2)
    space = Space({"code": encoder}, train="all")
    lines = Records.pairs(code=[f"def f{i}(x): return x + {i}" for i in range(8)])
    before = set(space.state_dict())
    history = coembed.fit(space, tasks=[SMAE(lines, "code", sizes=[[1, 8], [2, 16]])], steps=2, batch_size=4)
    assert len(history.losses) == 2 and set(space.state_dict()) == before
    space.save(tmp_path / "space")
    assert "SMAE on code" in (tmp_path / "space/README.md").read_text()
    loaded = Space.load(tmp_path / "space").encode("code", ["x = 1"], layer=1)
    assert torch.equal(loaded.values, space.encode("code", ["x = 1"], layer=1).values)


def test_a_run_depends_on_its_seed_alone():
    def losses(before: int, seed: int) -> list[float]:
        space = Space({"code": coembed.load("code/transformer", dim=16, layers=2, heads=2, seed=0)}, train="all")
        lines = Records.pairs(code=[f"def f{i}(x): return x + {i}" for i in range(8)])
        torch.manual_seed(before)
        return coembed.fit(space, tasks=[SMAE(lines, "code", sizes=[[1, 8]])], steps=2, batch_size=4, seed=seed).losses

    assert losses(1, 0) == losses(2, 0) != losses(2, 1)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"sizes": []}, "give each"),
        ({"sizes": [(1, 8), (1, 8)]}, "give each"),
        ({"sizes": [(1, 8)], "encoder_mask": 0.5}, "0.5 and 0.4"),
        ({"sizes": [(3, 8)]}, r"size \(3, 8\).*2 layers of width 16"),
        ({"sizes": [(1, 32)]}, r"size \(1, 32\)"),
    ],
)
def test_what_cannot_be_is_named(given, match):
    with pytest.raises(ValueError, match=match):
        SMAE(Records([]), "text", **given).build_head(SMAE.tiny_encoder())


def test_an_encoder_of_other_things_is_refused():
    with pytest.raises(ValueError, match="text/tfidf"):
        SMAE(Records([]), "text", sizes=[(1, 8)]).build_head(coembed.load("text/tfidf"))


def test_a_run_file_names_it_beside_the_sizes_it_prepares(tmp_path):
    words = ["red cat", "green dog", "blue fish", "a small sun", "big tree", "rock"]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps({"a": w, "b": w[::-1]}) + "\n" for w in words))
    small = "{encoder: text/transformer, kwargs: {dim: 16, layers: 2, heads: 2}, train: all}"
    (tmp_path / "run.yaml").write_text(
        f"towers:\n  a: {small}\n  b: {small}\nsources: [{{path: pairs.jsonl}}]\ndim: 8\nheld_out: 0\n"
        "tasks:\n"
        "  - {towers: [a], pretext: {name: pretrain/smae, sizes: [[1, 8], [2, 16]]}}\n"
        "  - {towers: [a, b], objective: {name: starbucks, objective: infonce, sizes: [[1, 4], [2, 8]]}}\n"
        "fit: {steps: 4}\nout: space\n"
    )
    assert main(["align", str(tmp_path / "run.yaml")]) == 0
    assert Space.load(tmp_path / "space")["a"].exits == ((1, 4),)
