"""coembed-bench: benchmarks beside peers, run by the command `coembed-bench`."""

from __future__ import annotations

# bench name -> (module with `run(quick) -> Report`, what it measures): read by the command without importing a bench
BENCHES: dict[str, tuple[str, str]] = {
    "startup": ("coembed_bench.startup", "CPU time of the imports and commands that a user waits for"),
}
