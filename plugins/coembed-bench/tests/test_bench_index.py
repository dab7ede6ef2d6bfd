"""The index bench: its table at toy size, what it refuses to time, and its picture."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest
import torch

from coembed_bench import cli, index_family
from coembed_bench.index_plot import scatter
from coembed_bench.report import Failed, Report

pytest.importorskip("faiss")
pytest.importorskip("usearch")
pytest.importorskip("coembed_index")


def rows(count: int, seed: int) -> torch.Tensor:
    centres = torch.randn(20, 32, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(0, 20, (count,), generator=generator)
    return torch.nn.functional.normalize(centres[which] + 0.5 * torch.randn(count, 32, generator=generator))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return index_family.measure(rows(1100, 0), rows(30, 1), 1, tmp_path_factory.mktemp("index"), 1)


def test_every_index_is_measured_beside_the_libraries(measured):
    table, aims = measured
    assert {row["system"] for row in table} == {"coembed", "faiss", "usearch"}
    assert len(table) == len(index_family.OURS) + 4
    for row in table:
        assert 0 < row["recall"] <= 1 and row["memory"] > 0 and row["single"] > 0 and row["batch"] > 0
        assert (row["disk"] is None) == (row["system"] != "coembed")
    by_name = {row["case"].partition(", 1,100")[0]: row for row in table}
    assert by_name["exact"]["recall"] == by_name["faiss Flat"]["recall"] == 1
    assert by_name["ivfpq, no rescoring"]["recall"] == pytest.approx(by_name["faiss IVF-PQ"]["recall"], abs=0.01)
    assert by_name["binary, codes only"]["memory"] <= by_name["int8, codes only"]["memory"] < by_name["hnsw"]["memory"]
    assert all(aim.value is not None for aim in aims)


def test_an_index_that_finds_less_than_its_library_is_not_timed(monkeypatch, tmp_path):
    worse = (("hnsw, no rescoring", "index/binary", {"keep": "none"}, "usearch HNSW"), *index_family.OURS[:1])
    monkeypatch.setattr(index_family, "OURS", worse)
    with pytest.raises(Failed, match=r"index: hnsw, no rescoring finds 0\.\d+, usearch HNSW by itself"):
        index_family.measure(rows(1100, 0), rows(30, 1), 1, tmp_path, 1)


def test_the_picture_is_an_svg_with_a_mark_for_each(measured, tmp_path, monkeypatch, capsys):
    table, _ = measured
    picture = scatter(table, "rows & more")
    tree = ElementTree.fromstring(picture)
    marks = tree.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(marks) == len(table)
    report = Report("index", table, [], None, pictures={"index.svg": picture})
    monkeypatch.setattr(index_family, "run", lambda quick: report)
    assert cli.main(["index", "--quick", "--out", str(tmp_path / "pictures")]) == 0
    assert (tmp_path / "pictures" / "index.svg").read_text(encoding="utf-8") == picture


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(Failed, match=r"pip install 'coembed-bench\[index\]'"):
        index_family.run(quick=True)
