"""A few functions in several languages, for tests and examples."""

from __future__ import annotations

__all__ = ["SAMPLES"]

SAMPLES = (
    "def add(first, second):\n    return first + second",
    'def greet(name):\n    """Say hello."""\n    print(f"hello {name}")',
    "function isEven(n) {\n  return n % 2 === 0;\n}",
    "func Max(a, b int) int {\n\tif a > b {\n\t\treturn a\n\t}\n\treturn b\n}",
    "fn square(x: i64) -> i64 {\n    x * x\n}",
    "class Stack:\n    def push(self, item):\n        self.items.append(item)",
)
