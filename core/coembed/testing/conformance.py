"""conformance("dna"): the kit as pytest cases, one a (component, check)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from coembed.testing.cases import Case, cases
from coembed.testing.subject import Broken, Inapplicable, Unavailable


def conformance(plugin: str, *, xfail: Mapping[str, str] | None = None) -> Callable[..., None]:
    """A pytest test that holds a plugin to every promise that it makes.

    `plugin` is the entry point's name. `xfail` maps a check, or "component-check" (a test's id), to the reason why it
    does not hold yet; it is strict: the test fails once it holds. Raises PluginError if the plugin is not installed,
    ValueError for an `xfail` that names no case.

    >>> test_encoder = conformance("core", xfail={"linear-passes_gradients": "under work"})
    """
    import pytest

    reasons = dict(xfail or {})
    found = list(cases(plugin))
    if unknown := reasons.keys() - {name for case in found for name in (case.check, case.id)}:
        known = ", ".join(dict.fromkeys(case.check for case in found))
        raise ValueError(f"xfail names {', '.join(sorted(unknown))}; the checks on {plugin} are {known}")

    def parameter(case: Case) -> Any:
        reason = reasons.get(case.id, reasons.get(case.check))
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        return pytest.param(case, id=case.id, marks=marks)

    @pytest.mark.parametrize("case", [parameter(case) for case in found])
    def test(case: Case) -> None:
        try:
            case.run()
        except Broken as broken:
            pytest.fail(f"{broken}\n({case.id} asks: {case.asks})", pytrace=False)
        except Unavailable as reason:
            pytest.skip(str(reason))
        except Inapplicable as reason:
            if {case.id, case.check} & reasons.keys():
                pytest.skip(str(reason))  # neither holds nor fails, so it must not end a strict xfail

    return test
