"""Embedding tables that take a share of the bytes while they are trained."""

from coembed_index.tables.base import BudgetError, Table
from coembed_index.tables.embedding import TABLES, CompressedEmbedding

__all__ = ["TABLES", "BudgetError", "CompressedEmbedding", "Table"]
