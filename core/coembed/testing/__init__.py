"""What plugin authors test with: the conformance kit, and a small real encoder."""

from coembed.testing.cases import Case, Inapplicable, Result, cases, run
from coembed.testing.conformance import conformance
from coembed.testing.toy import ToyEncoder, toy_encoder

__all__ = ["Case", "Inapplicable", "Result", "ToyEncoder", "cases", "conformance", "run", "toy_encoder"]
