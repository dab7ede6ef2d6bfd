"""BiDR: product codes trained for ranking, and the index that keeps them in memory and dense vectors on disk."""

from coembed_index.bidr.fit import ContrastiveCode, fit_contrastive
from coembed_index.bidr.index import BiGranular

__all__ = ["BiGranular", "ContrastiveCode", "fit_contrastive"]
