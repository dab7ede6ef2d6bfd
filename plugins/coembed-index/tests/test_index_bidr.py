"""BiDR: product codes, their training for ranking, and an index that reads dense vectors for candidates alone."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding
from coembed.index import open_index
from coembed_index.bebr.codes import pack
from coembed_index.bidr import BiGranular, ContrastiveCode, fit_contrastive
from coembed_index.kmeans import assign, kmeans
from coembed_index.product import ProductCode, looked_up, paired


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(rows, dim, seed=0):
    return F.normalize(draw(rows // 4, dim, seed=seed).repeat_interleave(4, 0) + 0.3 * draw(rows, dim, seed=seed + 1))


def test_assign_is_brute_force_and_kmeans_lowers_the_error():
    x, centres = draw(3, 200, 4), draw(3, 8, 4, seed=1)
    nearest, distances = assign(x, centres)
    brute = torch.cdist(x, centres).square().min(-1)
    assert torch.equal(nearest, brute.indices) and torch.allclose(distances, brute.values, atol=1e-4)
    errors = [assign(x, kmeans(x, 8, rounds=rounds))[1].mean().item() for rounds in (0, 1, 10)]
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[2]
    assert torch.equal(kmeans(x, 8, seed=3), kmeans(x, 8, seed=3))


def test_kmeans_leaves_no_cluster_empty():
    x = torch.cat([torch.zeros(1, 95, 2), draw(1, 5, 2) + 9], 1)
    start = torch.cat([torch.zeros(1, 1, 2), torch.full((1, 3, 2), 1e6)], 1)
    assert len(assign(x, kmeans(x, 4, start=start))[0].unique()) == 4


def test_fewer_points_than_codewords_are_coded_exactly():
    x = draw(5, 8)
    code = ProductCode(8, 4, 16, rotate=False).fit(x)
    assert torch.allclose(code.restore(code.encode(x)), x, atol=1e-6)


def test_a_learned_rotation_is_orthogonal_and_codes_better():
    x = unit(800, 16) @ torch.diag(torch.linspace(2, 0.05, 16))  # the first parts carry nearly all
    plain, turned = (ProductCode(16, 4, 16, rotate=rotate).fit(x) for rotate in (False, True))
    assert torch.allclose(turned.rotation @ turned.rotation.T, torch.eye(16), atol=1e-5)
    errors = [(x - code.restore(code.encode(x))).square().mean().item() for code in (plain, turned)]
    assert errors[1] < errors[0]


def test_a_query_that_is_not_rotated_scores_wrongly():
    x = unit(400, 16)
    code = ProductCode(16, 8, 64).fit(x)
    rows, q = code.decode(code.encode(x)), x[:50]
    right, wrong = (code.rotated(q) @ rows.T, q @ rows.T)
    assert torch.allclose(right, q @ code.restore(code.encode(x)).T, atol=1e-5)
    good, bad = ((s.argmax(1) // 4 == torch.arange(50) // 4).float().mean() for s in (right, wrong))
    assert good > 0.9 > 0.5 > bad


def test_the_straight_through_value_is_the_code_and_its_gradient_reaches_both_sides():
    code, x = ProductCode(8, 4, 8).fit(unit(100, 8)), unit(20, 8, seed=5).requires_grad_()
    out = code(x)
    assert torch.allclose(out, code.decode(code.encode(x)), atol=1e-5)
    (out * draw(20, 8)).sum().backward()
    assert x.grad.abs().sum() > 0 and code.codebooks.grad.abs().sum() > 0 and not code.rotation.requires_grad


def test_codewords_that_nothing_uses_are_revived():
    x = unit(200, 8)
    code = ProductCode(8, 2, 8).fit(x)
    with torch.no_grad():
        code.codebooks[:, 4:] = 1e3
    assert code.revive(x) == 8
    assert all(len(column.unique()) == 8 for column in code.encode(x).T)
    assert code.revive(x) == 0


@pytest.mark.parametrize(("subspaces", "codewords"), [(1, 2), (4, 16), (6, 13), (3, 16), (4, 17), (2, 256)])
@pytest.mark.parametrize("queries", [0, 1, 2, 5, 33])
def test_looking_up_is_decoding_and_multiplying(subspaces, codewords, queries):
    code, q = ProductCode(12, subspaces, codewords).fit(unit(300, 12)), draw(queries, 12, seed=3)
    numbers = code.encode(unit(100, 12, seed=4))
    wanted = q @ code.decode(numbers).T
    tables = code.tables(q)
    assert torch.allclose(looked_up(tables, numbers), wanted, atol=1e-5)
    if codewords <= 16:
        assert torch.allclose(looked_up(paired(tables), pack(numbers, 4)), wanted, atol=1e-5)


@pytest.mark.parametrize(("subspaces", "codewords"), [(4, 16), (4, 64), (5, 8)])
@pytest.mark.parametrize("out", [None, 20])
@pytest.mark.parametrize("rescore", [0, 4])
def test_hits_are_those_of_decoded_codes(subspaces, codewords, out, rescore):
    x = draw(300, 20) * torch.linspace(0.5, 2, 300)[:, None]
    model = fit_contrastive(x, x, out=out, subspaces=subspaces, codewords=codewords, warmup=2, steps=2)
    index = fill(BiGranular(model, rescore=rescore), x[:200])
    index.prepare()
    index.add([str(i) for i in range(200, 300)], Embedding.from_vectors(x[200:]), [{"n": i} for i in range(200, 300)])
    index.delete(["3", "250"])
    q = draw(9, 20, seed=5)
    decoded = model.product.decode(model.product.encode(model.document(x))).detach()
    rough = model.product.rotated(model.query(q)).detach() @ decoded.T * (1 if out else x.norm(dim=1))
    rough[:, [3, 250]] = -torch.inf
    for rule in (None, "n < 40"):
        allowed = rough if rule is None else rough.masked_fill(torch.arange(300) >= 40, -torch.inf)
        for row, found in enumerate(index.search(Embedding.from_vectors(q), k=5, where=rule)):
            best = allowed[row].topk(5 * max(1, rescore)).indices.tolist()
            scores = q[row] @ x.T if rescore else allowed[row]
            best = sorted(best, key=lambda i: -scores[i])[:5]
            # Rows of one code are as good as each other: it may be any of them, by the score of its own.
            assert [hit.score for hit in found] == pytest.approx(scores[best].tolist(), abs=1e-4)
            assert [hit.score for hit in found] == pytest.approx([float(scores[int(h.id)]) for h in found], abs=1e-4)


@pytest.mark.parametrize(("arguments", "named"), [((8, 3), "subspaces 3"), ((8, 2, 257), "codewords 257")])
def test_sizes_that_do_not_fit_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        ProductCode(*arguments)


def test_training_for_ranking_ranks_better_than_the_same_steps_for_reconstruction():
    x, noise = unit(800, 16), draw(800, 16, seed=7)
    noise[:, :4] *= 6  # dimensions that tell nothing of the partner
    queries, documents = x + 0.1 * draw(800, 16, seed=8), x + 0.3 * noise
    hits = {}
    for loss in ("contrastive", "mse"):
        model = fit_contrastive(queries, documents, subspaces=4, codewords=8, loss=loss, warmup=0, steps=120, lr=5e-3)
        codes = model.product.decode(model.product.encode(model.document(documents)))
        scores = model.product.rotated(model.query(queries)) @ codes.T
        hits[loss] = (scores.topk(20).indices == torch.arange(800)[:, None]).any(1).float().mean().item()
    assert hits["contrastive"] > hits["mse"] + 0.02


def test_without_heads_there_is_nothing_to_warm_up():
    x = unit(64, 8)
    short, long = (fit_contrastive(x, x, subspaces=2, codewords=4, warmup=n, steps=2, batch_size=16) for n in (0, 9))
    assert torch.equal(short.product.codebooks, long.product.codebooks)
    plain = fit_contrastive(x, x, subspaces=2, codewords=4, steps=0).product
    assert torch.allclose(plain.codebooks, ProductCode(8, 2, 4).fit(x).codebooks, atol=1e-5)


def fill(index, x):
    index.add([str(i) for i in range(len(x))], Embedding.from_vectors(x), [{"n": i} for i in range(len(x))])
    return index


def test_dense_vectors_are_read_for_candidates_only_and_give_the_scores(tmp_path: Path):
    x = unit(600, 16)
    fill(BiGranular(subspaces=4, codewords=16, rescore=5), x).save(tmp_path / "index")
    index = open_index(tmp_path / "index")
    hits = index.search(Embedding.from_vectors(x[:7]), k=3)
    assert index.read == 7 * 3 * 5
    for row, found in zip(x @ x.T, hits, strict=False):
        assert [hit.score for hit in found] == pytest.approx([float(row[int(hit.id)]) for hit in found], abs=1e-5)
    size = index.nbytes()
    assert size.memory < 600 * 16 * 4 < size.disk


def test_two_stages_never_find_what_the_first_did_not(tmp_path: Path):
    x = unit(600, 16)
    first = fill(BiGranular(subspaces=2, codewords=8, rescore=0), x)
    both = fill(BiGranular(subspaces=2, codewords=8, rescore=4), x)
    q = Embedding.from_vectors(x[:30])
    candidates, found = first.search(q, k=20), both.search(q, k=5)
    for row, wide in zip(found, candidates, strict=True):
        assert {hit.id for hit in row} <= {hit.id for hit in wide}


def test_the_sparse_weight_adds_the_codes_score():
    x = unit(100, 16)
    q = Embedding.from_vectors(x[:3])
    codes = {hit.id: hit.score for hit in fill(BiGranular(subspaces=4, rescore=0), x).search(q, k=100)[1]}
    for hit in fill(BiGranular(subspaces=4, rescore=50, sparse_weight=0.3), x).search(q, k=5)[1]:
        assert hit.score == pytest.approx(float(x[1] @ x[int(hit.id)]) + 0.3 * codes[hit.id], abs=1e-5)


def test_a_trained_model_is_kept_with_the_index(tmp_path: Path):
    x = unit(200, 16)
    model = fit_contrastive(x, x, out=8, subspaces=4, codewords=16, warmup=5, steps=5)
    index = fill(BiGranular(model, rescore=0, keep="none"), x)
    wanted = index.search(Embedding.from_vectors(x[:5]))
    index.save(tmp_path / "index")
    again = BiGranular.load(tmp_path / "index")
    assert again.search(Embedding.from_vectors(x[:5])) == wanted
    assert isinstance(again.model, ContrastiveCode) and again.settings() == index.settings()


@pytest.mark.parametrize("given", [True, False])
def test_only_what_the_index_made_itself_is_learned_anew(given, tmp_path: Path):
    x = unit(200, 16)
    model = fit_contrastive(x, x, subspaces=4, codewords=16, warmup=0, steps=2) if given else None
    fill(BiGranular(model, subspaces=4, codewords=16), x[:100]).save(tmp_path / "index")
    index = BiGranular.load(tmp_path / "index")
    before = index.model.product.codebooks.detach().clone()
    index.add([f"new{i}" for i in range(100)], Embedding.from_vectors(x[100:] + 1))
    index.rebuild()
    assert torch.equal(index.model.product.codebooks, before) == given
