"""The bench of memory at growing batches: its parts, at toy size."""

from __future__ import annotations

import pytest

from coembed_bench import memory
from coembed_bench.report import Failed


def test_a_case_is_measured_in_a_process_of_its_own() -> None:
    found = memory._child(["8", "4", "1"])
    assert found["seconds"] > 0 and found["peak"] >= 0
    with pytest.raises(Failed, match="no record has items"):
        memory._child(["0", "0", "1"])


def test_the_report_compares_the_largest_batch_with_the_smallest(monkeypatch) -> None:
    peaks = {("64", "64"): 80.0, ("512", "64"): 81.0, ("4096", "64"): 90.0, ("512", "0"): 600.0}
    monkeypatch.setattr(memory, "_child", lambda arguments: {"peak": peaks[tuple(arguments[:2])], "seconds": 1.0})
    report = memory.run(quick=True)
    assert [aim.value for aim in report.aims] == [10.0, pytest.approx(600 / 81)]
    assert all(aim.met() for aim in report.aims)
