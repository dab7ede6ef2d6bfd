"""Molecules: SMILES to graphs, by RDKit."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import networkx as nx

from coembed_graph.graphs import GraphError


def rdkit() -> ModuleType:
    """RDKit's chemistry module; raises ImportError naming the extra that brings it."""
    try:
        from rdkit import Chem
    except ImportError as error:
        raise ImportError(f"SMILES are read by RDKit: pip install 'coembed-graph[smiles]' ({error})") from error
    return Chem


def molecule(smiles: str) -> Any:
    """The graph of a molecule: a node an atom, an edge a bond, hydrogens counted on their atoms.

    The text of a node holds the element, aromaticity, charge, isotope, chirality and hydrogens; the type of an edge the
    kind of bond. Raises GraphError for what is no molecule, ImportError without RDKit.

    >>> molecule("CO").nodes[1]["text"]  # doctest: +SKIP
    'O h1'
    """
    chem = rdkit()
    from rdkit import rdBase

    silent = rdBase.BlockLogs()  # the error below says it
    try:
        found = chem.MolFromSmiles(smiles)
    finally:
        del silent
    if found is None or not found.GetNumAtoms():
        raise GraphError("a valid SMILES of one atom or more")
    graph = nx.Graph()
    for atom in found.GetAtoms():
        words = [
            atom.GetSymbol(),
            "aromatic" if atom.GetIsAromatic() else "",
            f"charge{atom.GetFormalCharge():+d}" if atom.GetFormalCharge() else "",
            f"isotope{atom.GetIsotope()}" if atom.GetIsotope() else "",
            atom.GetProp("_CIPCode") if atom.HasProp("_CIPCode") else "",
            f"h{atom.GetTotalNumHs()}",
        ]
        graph.add_node(atom.GetIdx(), text=" ".join(filter(None, words)))
    for bond in found.GetBonds():
        stereo = str(bond.GetStereo()).removeprefix("STEREO").lower()
        kind = f"{bond.GetBondType()}".lower() + ("" if stereo == "none" else f" {stereo}")
        graph.add_edge(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), type=kind)
    return graph
