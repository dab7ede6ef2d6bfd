"""The checks, a file a kind of component; importing this registers them all."""

from coembed.testing.checks import aligners, encoders, evals, indexes, objectives, package, pretexts, sources

__all__ = ["aligners", "encoders", "evals", "indexes", "objectives", "package", "pretexts", "sources"]
