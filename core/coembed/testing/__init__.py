"""What authors test with."""

from coembed.testing.toy import ToyEncoder, toy_encoder

__all__ = ["ToyEncoder", "toy_encoder"]
