"""What plugin authors test with: the conformance kit, and a small real encoder."""

from coembed.testing.cases import Case, Result, cases, run
from coembed.testing.conformance import conformance
from coembed.testing.subject import Broken, Inapplicable
from coembed.testing.toy import ToyEncoder, toy_encoder

__all__ = ["Broken", "Case", "Inapplicable", "Result", "ToyEncoder", "cases", "conformance", "run", "toy_encoder"]
