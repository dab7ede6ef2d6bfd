"""From-scratch encoders: what a subclass gets without writing it."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch

from coembed import CoembedWarning, EncoderSpec
from coembed.items import BadItem
from coembed.nn import BodyEncoder, TokenEmbedding, TransformerConfig, TransformerEncoder, bytes_tokenizer, characters

TEXTS = ["a cat", "", "three blue dogs in a row", "naïve 😀"]
CORPUS = [f"the {a} {b} sat on the mat" for a in ("red", "blue", "green") for b in ("cat", "hat", "bat")]


class Text(TransformerEncoder):
    @classmethod
    def samples(cls):
        return TEXTS


class Bases(TransformerEncoder):
    alphabet = "ACGT"

    def prepare(self, item, position):
        text = super().prepare(item, position).upper()
        if set(text) - set("ACGTN"):
            raise BadItem(position, repr(item), "bases")
        return text

    @classmethod
    def samples(cls):
        return ["ACGT", "acgtacgtn"]


class Frames(BodyEncoder):
    """Items are lists of vectors: no ids anywhere."""

    def __init__(self, spec):
        super().__init__(spec, TransformerConfig(dim=16, layers=2, heads=2), pooling="first")
        self.project = torch.nn.Linear(4, 16)

    def collate(self, items, prompt=""):
        rows = [torch.tensor(item) for item in items]
        values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"values": values, "mask": torch.arange(values.shape[1]) < torch.tensor([[len(r)] for r in rows])}

    def embed(self, batch):
        return self.project(batch["values"])

    @classmethod
    def samples(cls):
        return [[[1.0, 0.0, 0.0, 0.0]] * 3, [[0.0, 1.0, 2.0, 3.0]]]


def spec(**changes) -> EncoderSpec:
    return EncoderSpec(
        **{"name": "demo/text", "modality": "text", "dim": 16, "layers": 3, "target": "demo:Text"} | changes
    )


def text(**changes) -> Text:
    return Text(spec(), **{"heads": 2} | changes).eval()


def make(name: str):
    if name == "frames":
        return Frames(spec(layers=None, matryoshka=(8,))).eval()
    if name == "bases":
        return Bases(spec(), heads=2, tokenizer="kmers:3", positions="rotary", pooling="attention").eval()
    return text(causal=True, pooling="last", norm="post") if name == "causal" else text()


ALL = pytest.mark.parametrize("name", ["text", "causal", "bases", "frames"])


@ALL
def test_a_batch_equals_its_items_one_by_one(name):
    encoder = make(name)
    items = encoder.samples()
    together = encoder.encode(items)
    assert together.values.shape == (len(items), 1, 16) and together.mask.all()
    for i, item in enumerate(items):
        assert torch.allclose(together.values[i], encoder.encode([item]).values[0], rtol=0, atol=1e-6)
    assert torch.pdist(together.vectors).min() > 1e-4
    assert encoder.encode([]).values.shape == (0, 1, 16)


@ALL
def test_early_exit_equals_the_hidden_state_and_runs_no_more(name):
    encoder = make(name)
    batch = encoder.collate(encoder.samples())
    calls: list[int] = []
    for i, block in enumerate(encoder.blocks(), 1):
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
    states = encoder.hidden_states(batch)
    assert len(states) == encoder.layers + 1 == len(encoder.blocks()) + 1
    for k in range(1, encoder.layers + 1):
        calls.clear()
        out = encoder(batch, layer=k)
        assert calls == list(range(1, k + 1))
        assert torch.equal(out.values, states[k].values) and torch.equal(out.mask, states[k].mask)
        assert out.sizes == states[k].sizes == encoder.sizes
    assert len(encoder.hidden_states(batch, layer=1)) == 2
    assert not torch.allclose(
        encoder.encode(encoder.samples(), layer=1).values, encoder.encode(encoder.samples()).values
    )


@ALL
def test_saved_and_restored_is_the_same(name, tmp_path):
    encoder = make(name)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    encoder.save(tmp_path / "saved")
    other = make(name)
    other.restore(tmp_path / "saved")
    assert torch.equal(other.encode(other.samples()).values, encoder.encode(encoder.samples()).values)
    assert other.fingerprint() == encoder.fingerprint()


def test_a_trained_vocabulary_travels_with_the_weights(tmp_path):
    encoder = text(tokenizer="bpe:280")
    assert not encoder.fitted and encoder.embed_tokens.vocab_size == 261
    assert encoder.encode(TEXTS).mask.all()  # bytes until it is fitted
    encoder.double().fit_tokenizer(CORPUS)
    encoder.float()
    assert encoder.fitted and encoder.embed_tokens.vocab_size == encoder.tokenizer.vocab_size == 280
    assert encoder.size("the red cat") < bytes_tokenizer().lengths(["the red cat"])[0]
    encoder.save(tmp_path / "saved")
    other = text(tokenizer="bpe:280")
    other.restore(tmp_path / "saved")
    assert other.fitted and other.tokenizer.backend.to_str() == encoder.tokenizer.backend.to_str()
    assert torch.equal(other.encode(TEXTS).values, encoder.encode(TEXTS).values)
    for settled in (encoder, other, text()):
        with pytest.raises(ValueError, match="settled"):
            settled.fit_tokenizer(CORPUS)


def test_fitting_keeps_the_type_the_mode_and_what_may_train():
    encoder = text(tokenizer="words:20").to(torch.bfloat16).train().requires_grad_(False)
    encoder.fit_tokenizer(CORPUS)
    weight = encoder.embed_tokens.table.weight
    assert weight.dtype == torch.bfloat16 and not weight.requires_grad and encoder.embed_tokens.training
    again = text(tokenizer="words:20").to(torch.bfloat16)
    again.fit_tokenizer(CORPUS)
    assert torch.equal(weight, again.embed_tokens.table.weight)


def test_a_subclass_may_train_its_vocabulary_its_own_way():
    class Own(Bases):
        def train_tokenizer(self, texts):
            return characters("".join(sorted(set("".join(texts)))))

    encoder = Own(spec(), heads=2, tokenizer="bpe:300")
    encoder.fit_tokenizer(["acgt", "NN"])
    assert encoder.tokenizer.vocab_size == 10 and encoder.fitted


def test_fitting_names_the_bad_item():
    with pytest.raises(BadItem, match="item 1: got int 3"):
        text(tokenizer="bpe:280").fit_tokenizer(["fine", 3])


@pytest.mark.parametrize("bad", [3, None, b"bytes", ["a"], "\ud800"])
def test_a_bad_item_is_named_and_the_rest_survives(bad):
    with pytest.raises(BadItem, match="item 2"):
        text().encode(["a", "b", bad])
    seen: list[BadItem] = []
    out = text().encode(["a", bad, "b"], on_error=seen.append)
    assert out.mask.tolist() == [[True], [False], [True]] and [error.position for error in seen] == [1]


def test_a_subclass_cleans_its_items():
    encoder = make("bases")
    assert torch.equal(encoder.encode(["acgtn"]).values, encoder.encode(["ACGTN"]).values)
    with pytest.raises(BadItem, match=r"item 1.*expected bases"):
        encoder.encode(["ACGT", "hello"])


def test_cutting_is_said_once_and_counted():
    encoder = text(max_length=8)
    with pytest.warns(CoembedWarning, match="2 of 3 items .* max_length=8"):
        batch = encoder.collate(["short", "much too long", "this one too"])
    assert batch["ids"].shape == (3, 8) and (batch["ids"][1, -1] == encoder.tokenizer.sep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.collate(["much too long"])
        text(max_length=8).collate(["sixchr"])
    assert encoder.overlong(["short", "much too long", "this one too"]) == 2
    assert encoder.overlong(["short"], prompt="query: ") == 1
    assert encoder.size("much too long") == 8 and encoder.size("cat") == 5


def test_a_prompt_changes_the_vector_like_a_prefix():
    encoder = Text(spec(prompts={"query": "q: "}), heads=2).eval()
    assert torch.allclose(encoder.encode(["cat"], role="query").values, encoder.encode(["q: cat"]).values)
    assert not torch.allclose(encoder.encode(["cat"], role="query").values, encoder.encode(["cat"]).values)


def test_building_leaves_the_global_generator_alone_and_repeats():
    before = torch.get_rng_state()
    one, two, other = text(pooling="attention"), text(pooling="attention"), text(pooling="attention", seed=1)
    encoder = text(tokenizer="bpe:280")
    encoder.fit_tokenizer(CORPUS)
    assert torch.equal(before, torch.get_rng_state())
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])
    assert not torch.equal(one.embed_tokens.table.weight, other.embed_tokens.table.weight)
    assert not torch.allclose(one.body.position_table.weight[5:100], one.embed_tokens.table.weight[5:100], atol=1e-3)


def test_batches_pickle_and_encoders_copy():
    encoder = make("bases")
    batch = pickle.loads(pickle.dumps(encoder.collate(encoder.samples())))
    assert torch.equal(copy.deepcopy(encoder)(batch).values, encoder(batch).values)
    assert torch.equal(pickle.loads(pickle.dumps(text())).encode(TEXTS).values, text().encode(TEXTS).values)


def test_every_weight_gets_a_gradient():
    encoder = make("bases").train()
    encoder.pooled(encoder(encoder.collate(encoder.samples()))).values.pow(2).sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("positions", "learns"), [("learned", True), ("rotary", True), ("none", False)])
def test_order_is_learnt_where_positions_tell_it(positions, learns):
    """Which letter comes first: the same bag of bytes both ways, so that only the order can tell."""
    encoder = Text(spec(dim=32), heads=2, layers=2, positions=positions, dropout=0.0, max_length=8).train()
    items = [f"{x}{y}" for x in "abcdefgh" for y in "abcdefgh" if x != y]
    target = torch.tensor([float(item[0] < item[1]) for item in items])
    batch, best = encoder.collate(items), 0.0
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    for _ in range(300):
        logits = 4 * encoder.pooled(encoder(batch)).vectors[:, 0]
        best = max(best, ((logits > 0) == (target > 0)).float().mean().item())
        if best > 0.95:
            break
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    assert best > 0.95 if learns else best < 0.6


def test_multivector_output_keeps_every_token():
    encoder = Text(spec(output="multivector", matryoshka=(8,)), heads=2).eval()
    out = encoder.encode(["ab", "a"])
    assert out.values.shape == (2, 4, 16) and out.mask.sum(1).tolist() == [4, 3] and out.sizes == (8,)


def test_masked_tokens_read_as_the_mask_token():
    encoder = text()
    ids = encoder.collate(["a cat"])["ids"]
    hidden = torch.zeros_like(ids, dtype=torch.bool)
    hidden[0, 2] = True
    swapped = ids.clone()
    swapped[0, 2] = encoder.mask_token
    assert torch.equal(encoder.embed_tokens(ids, masked=hidden), encoder.embed_tokens(swapped))
    assert (encoder.embed_tokens(torch.tensor([[encoder.tokenizer.pad]])) == 0).all()
    batch = encoder.collate(["a cat"])
    assert torch.equal(encoder(batch | {"masked": hidden}).values, encoder(batch | {"ids": swapped}).values)
    with pytest.raises(ValueError, match="mask_id"):
        TokenEmbedding(5, 4)(ids.clamp(max=4), masked=hidden)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "median"}, "choose from mean, first"),
        ({"tokenizer": "byte"}, "tokenizer='byte'"),
        ({"tokenizer": "kmers:3"}, "with an alphabet"),
        ({"max_length": 1}, "max_length=1"),
        ({"heads": 3}, "3 heads"),
    ],
)
def test_arguments_that_cannot_be_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        text(**changes)
