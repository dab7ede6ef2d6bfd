"""The encoder: the core's transformer over residues; all that is its own is what a peptide is."""

from coembed import BadItem
from coembed.items import describe
from coembed.nn import TransformerEncoder


class Residues(TransformerEncoder):
    """Encode peptides, N-terminus first; the arguments are those of `TransformerEncoder`."""

    alphabet = "ACDEFGHIKLMNPQRSTVWY"

    def prepare(self, item, position):
        """The residues without spaces; raises BadItem for what is none of the twenty."""
        residues = "".join(item.split()).upper() if isinstance(item, str) else ""
        if not residues or set(residues) - set(self.alphabet):
            raise BadItem(position, describe(item), "residues in one-letter codes, like CYIQNCPLG")
        return residues

    def read(self, path):
        """The words of a text file, a peptide each."""
        return path.read_text(encoding="utf-8").split()

    @classmethod
    def samples(cls):
        """Oxytocin, vasopressin, angiotensin II and an enkephalin."""
        return ["CYIQNCPLG", "CYFQNCPRG", "DRVYIHPF", "YGGFM"]
