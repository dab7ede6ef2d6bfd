"""The checks, a file a kind of component; importing this registers them all, in the order in which they run."""

from coembed.testing.checks import (  # isort: skip
    package,
    modules,
    encoders,
    encoder_storage,
    encoder_training,
    encoder_promises,
    aligners,
    objectives,
    pretexts,
    sources,
    indexes,
    index_promises,
    evals,
)

__all__ = [
    "aligners",
    "encoder_promises",
    "encoder_storage",
    "encoder_training",
    "encoders",
    "evals",
    "index_promises",
    "indexes",
    "modules",
    "objectives",
    "package",
    "pretexts",
    "sources",
]
