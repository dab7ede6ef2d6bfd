"""Molecules, where RDKit is installed; and what is said where it is not."""

from __future__ import annotations

import sys
from typing import Any

import networkx as nx
import pytest
import torch

import coembed
from coembed import BadItem


def test_without_rdkit_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"coembed-graph\[smiles\]"):
        coembed.load("graph/molecule")
    assert coembed.load("graph/gin", dim=16).encode([nx.path_graph(2)]).present.all()


@pytest.fixture(scope="module")
def molecules() -> Any:
    pytest.importorskip("rdkit", reason="needs the extra: pip install 'coembed-graph[smiles]'")
    return coembed.load("graph/molecule", dim=32, layers=3).eval()


def test_spellings_of_a_molecule_are_equal(molecules: Any) -> None:
    a, b, c = molecules.encode(["OC(=O)c1ccccc1", "c1ccc(cc1)C(O)=O", "C1=CC=CC=C1C(=O)O"]).vectors
    assert torch.allclose(a, b, atol=1e-5) and torch.allclose(a, c, atol=1e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [("CCO", "COC"), ("C=C", "CC"), ("[NH4+]", "N"), ("C[C@H](N)O", "C[C@@H](N)O"), ("F/C=C/F", "F/C=C\\F")],
)
def test_molecules_that_differ_do(molecules: Any, one: str, other: str) -> None:
    a, b = molecules.encode([one, other]).vectors
    assert not torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("smiles", ["", "C1CC", "not a molecule", "C(C)(C)(C)(C)C"])
def test_what_is_no_molecule_is_refused(molecules: Any, smiles: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadItem, match=r"item 1: .*valid SMILES"):
        molecules.encode(["CC", smiles])
    assert not capfd.readouterr().err  # RDKit would also write to the terminal


def test_atoms_and_bonds() -> None:
    pytest.importorskip("rdkit")
    from coembed_graph.smiles import molecule

    graph = molecule("C[N+](C)=C")
    assert [graph.nodes[i]["text"] for i in graph] == ["C h3", "N charge+1 h0", "C h3", "C h2"]
    assert [kind for *_, kind in graph.edges(data="type")] == ["single", "single", "double"]
