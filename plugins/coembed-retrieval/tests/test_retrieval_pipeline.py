"""The pipeline: stages in order, filters for all, honest ceilings; and the rerankers that read pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import coembed
from coembed import Embedding, Space, Tower, similarity
from coembed.index import Exact, Hit
from coembed.testing import toy_encoder
from coembed_retrieval import BM25, CrossEncoder, Dense, LateInteraction, Pipeline, ProjectOut, Rerank

TEXTS = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("cat", "dog", "house", "tree")]
IDS = [f"d{i}" for i in range(len(TEXTS))]
PAYLOADS = [{"text": text, "n": i} for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def space():
    return Space({"text": toy_encoder(dim=16)})


@pytest.fixture(scope="module")
def late():
    return Space({"text": Tower(toy_encoder(dim=16), "identity", pool="none")})


@pytest.fixture
def stages(space):
    words = BM25()
    words.add(IDS, TEXTS, PAYLOADS)
    return [Dense(space, "text", space.index("text", TEXTS, ids=IDS, payloads=PAYLOADS)), words]


def test_search_gives_the_last_stage(stages):
    pipeline = Pipeline(stages, "rrf", [lambda query, hits: [-hit.payload["n"] for hit in hits]])
    found = pipeline.search(["red dog", "green tree"], k=3)
    assert [[hit.id for hit in row] for row in found] == [["d0", "d1", "d2"]] * 2
    *_, (name, hits, _) = pipeline.trace(["red dog", "green tree"])
    assert name == "<lambda>" and [row[:3] for row in hits] == found


def test_one_retriever_alone_is_itself(stages):
    assert Pipeline(stages[:1]).search(["red dog"], k=4) == stages[0].retrieve(["red dog"], 4)


def test_where_restricts_every_stage(stages):
    pipeline = Pipeline(stages, [0.5, 0.5], [Rerank(lambda query, hits: [1.0] * len(hits), depth=20)])
    for where in ("n < 4", IDS[:4]):
        for _, hits, _ in pipeline.trace(["red dog"], where):
            assert {hit.id for hit in hits[0]} <= set(IDS[:4])
        assert len(pipeline.search(["red dog"], k=9, where=where)[0]) == 4


def test_reports_every_stage_and_nothing_is_recalled_that_was_not_found(stages):
    oracle = {"red dog": "d1", "a tree of green": "d11", "blue house": "d6"}
    right = [{name} for name in oracle.values()]

    def knows(query, hits):
        return [hit.id == oracle[query] for hit in hits]

    report = Pipeline(stages, "rrf", [Rerank(knows, depth=2, name="oracle")], depth=3).report(
        list(oracle), right, (1, 2, 5)
    )
    names = [stage.stage for stage in report.stages]
    assert names == ["dense", "bm25", "fused (rrf)", "oracle"]
    fused, last = report.stages[-2:]
    assert last.recall[1] == last.found == fused.recall[2], "a perfect reranker reaches what it was given, no more"
    assert fused.found >= max(stage.found for stage in report.stages[:2]), "fusing loses no candidate"
    for stage in report.stages:
        assert all(value <= stage.found + 1e-12 for value in stage.recall.values())
        assert list(stage.recall.values()) == sorted(stage.recall.values())
    lines = str(report).splitlines()
    assert len(lines) == 5 and "R@5" in lines[0] and lines[4].startswith("oracle")


def test_recall_counts_several_right_ones_and_ties_at_random(stages):
    same = Pipeline(stages[1:], rerank=[lambda query, hits: [0.0] * len(hits)])
    report = same.report(["red"], [{"d0", "d1", "elsewhere"}], (1, 2, 4))
    first, last = report.stages
    assert first.found == pytest.approx(2 / 3) == first.recall[4]
    assert last.recall == pytest.approx({1: 1 / 6, 2: 1 / 3, 4: 2 / 3}), "four tied: the expectation, not the order"


def test_a_query_without_candidates_is_a_miss(stages):
    report = Pipeline(stages[1:], rerank=[lambda query, hits: [1.0] * len(hits)]).report(
        ["nothing", "red"], [{"d0"}] * 2
    )
    assert [stage.found for stage in report.stages] == [0.5, 0.5]


def test_mistakes_are_named(stages):
    pipeline = Pipeline(stages, "rrf", [Rerank(lambda query, hits: [1.0], name="short")])
    for call, error, said in (
        (lambda: Pipeline([]), ValueError, "at least one"),
        (lambda: Pipeline(stages), ValueError, "need fuse"),
        (lambda: pipeline.search("red"), TypeError, "wrap it"),
        (lambda: pipeline.search(["red"], k=51), ValueError, "short reads 50 candidates"),
        (lambda: pipeline.search(["red"]), ValueError, "reranker short: 12 hits, but 1 scores"),
        (lambda: pipeline.report(["red"], [set()]), ValueError, "query 0 needs a collection"),
        (lambda: pipeline.report(["red"], ["d0"]), ValueError, "query 0 needs a collection"),
        (lambda: pipeline.report(["red"], []), ValueError, "1 queries but 0 sets"),
        (lambda: Rerank(print, depth=0), ValueError, "depth"),
    ):
        with pytest.raises(error, match=said):
            call()
    with pytest.raises(ValueError, match="not finite"):
        Rerank(lambda query, hits: [float("nan")])("q", [Hit("a", 1.0)])


def test_a_transform_changes_the_query_only(space, stages):
    index = stages[0].index
    undesired = space.encode("text", ["dog"])
    stage = Dense(space, "text", index, transforms=[ProjectOut(undesired)])
    rows = ProjectOut(undesired)(space.encode("text", ["red dog"]))
    assert stage.retrieve(["red dog"], 5) == index.search(rows, 5)


def test_late_interaction_is_maxsim_of_the_stored_vectors(late, stages):
    index = late.index("text", TEXTS, ids=IDS)
    rerank = LateInteraction(late, "text", index)
    (hits,) = stages[0].retrieve(["blue tree"], 6)
    wanted = similarity(late.encode("text", ["blue tree"]), late.encode("text", [hit.payload["text"] for hit in hits]))
    assert torch.allclose(torch.tensor(rerank("blue tree", hits)), wanted[0], atol=1e-5)
    found = Pipeline(stages, "rrf", [rerank]).search(["blue tree"], k=1)[0][0]
    assert found.id == "d7" and found.payload == PAYLOADS[7], "payloads are the first stage's"
    with pytest.raises(ValueError, match="its index has no 'new'"):
        rerank("blue tree", [*hits, Hit("new", 0.0)])


def test_late_interaction_refuses_an_index_that_misses(late):
    class Rough(Exact):
        recall = 0.9

    with pytest.raises(ValueError, match=r"recall 0\.9"):
        LateInteraction(late, "text", Rough())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """write(labels) gives the folder of a BERT classifier with random weights, and its byte tokeniser."""
    transformers = pytest.importorskip("transformers", reason="pip install 'coembed-retrieval[rerank]'")
    from coembed_text.tiny import write_checkpoint

    def write(labels: int) -> Path:
        folder = tmp_path_factory.mktemp("cross")
        write_checkpoint(folder, dim=32, max_length=128)
        config = transformers.BertConfig.from_pretrained(folder)
        config.num_labels = labels
        with torch.random.fork_rng():
            torch.manual_seed(0)
            transformers.BertForSequenceClassification(config).save_pretrained(folder)
        return folder

    return write


@pytest.mark.parametrize("labels", [1, 2])
def test_a_cross_encoder_scores_pairs_alike_in_any_batch(checkpoint, labels):
    folder = checkpoint(labels)
    hits = [Hit(name, 0.0, payload) for name, payload in zip(IDS, PAYLOADS, strict=True)]
    reads = CrossEncoder(folder, batch_size=5, device="cpu")
    together = reads("red dog", hits)
    alone = torch.cat([reads("red dog", [hit]) for hit in hits])
    assert torch.allclose(together, alone, atol=1e-5) and together.unique().numel() > 6
    logits = reads.model(**reads.tokenizer("red dog", TEXTS[3], return_tensors="pt")).logits[0]
    assert together[3].item() == pytest.approx((logits[0] if labels == 1 else logits[1] - logits[0]).item(), abs=1e-5)
    assert not torch.allclose(reads("blue dog", hits), together), "the query is read"
    long = [Hit("long", 0.0, "word " * 500)]
    assert CrossEncoder(folder, max_length=64, device="cpu")("red dog", long).isfinite().all()


def test_a_cross_encoder_in_a_pipeline_never_recalls_more_than_its_candidates(checkpoint, stages):
    reranked = Pipeline(stages, "rrf", [Rerank(CrossEncoder(checkpoint(1), device="cpu"), depth=4)], depth=6)
    report = reranked.report(TEXTS, [{name} for name in IDS], (1, 4))
    *_, fused, last = report.stages
    assert last.stage == "cross-encoder" and last.recall[4] == pytest.approx(fused.recall[4], abs=0.05)
    assert last.found <= fused.found and last.recall[1] <= last.found


def test_a_cross_encoder_says_what_it_can_t_read(checkpoint, tmp_path):
    for model in ("org/model", "org/model@main", str(tmp_path / "none")):
        with pytest.raises(ValueError, match="neither a folder here nor pinned"):
            CrossEncoder(model)
    with pytest.raises(ValueError, match="3 labels"):
        CrossEncoder(checkpoint(3))
    reads = CrossEncoder(checkpoint(1), device="cpu")
    with pytest.raises(ValueError, match="hit 'a' has no text"):
        reads("red", [Hit("a", 1.0, {"n": 1})])
    with pytest.raises(TypeError, match="it reads texts"):
        reads(3, [Hit("a", 1.0, "x")])


def test_nothing_is_imported_before_it_is_asked_for():
    import subprocess
    import sys

    code = (
        "import sys, coembed_retrieval; print(sorted({'torch', 'numpy', 'bm25s', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="it has BM25"):
        coembed_retrieval = __import__("coembed_retrieval")
        _ = coembed_retrieval.Bm25


def test_center_and_projection_go_together(space, stages):
    from coembed_retrieval import Center

    rows = space.encode("text", TEXTS)
    center = Center().fit({"text": rows})
    index = coembed.load("exact")
    index.add(IDS, center("text", rows))
    stage = Dense(space, "text", index, transforms=[center["text"]])
    assert [row[0].id for row in stage.retrieve(TEXTS, 1)] == IDS
    assert isinstance(center["text"](rows), Embedding)
