"""A table small enough to read: what the sources' `tiny` write for the conformance kit."""

from __future__ import annotations

WORDS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen")

# Eight pairs in four groups, as rows of coembed's own layout.
ROWS = [
    {"id": word, "group": f"pair {i // 2}", "label": "animal", "text": f"a {word}", "code": f"{word}()"}
    for i, word in enumerate(WORDS)
]
