"""conformance("dna"): the kit as pytest cases, one a (component, check)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from coembed.testing.cases import CHECKS, Case, Inapplicable, cases


def conformance(plugin: str, *, xfail: Mapping[str, str] | None = None) -> Callable[..., None]:
    """A pytest test that holds a plugin to every promise that it makes.

    `plugin` is the entry point's name; `xfail` maps a check, or "component-check", to the reason why it does not hold
    yet (strict: it fails once it holds). Raises ValueError for a check that is not in the kit.

    >>> test_encoder = conformance("core", xfail={"saves_and_loads": "under work"})
    """
    import pytest

    reasons = dict(xfail or {})
    found = list(cases(plugin))
    known = {name for case in found for name in (case.check, case.id)}
    known |= {function.__name__ for functions in CHECKS.values() for function in functions}
    if unknown := set(reasons) - known:
        raise ValueError(f"xfail names {', '.join(sorted(unknown))}: no such check; see `coembed check {plugin}`")

    def parameter(case: Case) -> Any:
        reason = reasons.get(case.id, reasons.get(case.check))
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        return pytest.param(case, id=case.id, marks=marks)

    @pytest.mark.parametrize("case", [parameter(case) for case in found])
    def test(case: Case) -> None:
        try:
            case.run()
        except Inapplicable:
            return

    return test
