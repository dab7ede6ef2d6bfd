"""Recipes: a claim is judged over seeds, an invariant that breaks is said, nothing is made to look better."""

from __future__ import annotations

import json
import math

import pytest

from coembed_bench.recipe import Claim, Recipe, layout, main, take

CLAIM = Claim("it helps", "R@1", better="with", than="without")


def holds() -> None:
    assert 1 + 1 == 2


def breaks() -> None:
    raise AssertionError("two is three")


def recipe(gains, **options) -> Recipe:
    def run(seed, quick):
        return {"without": {"R@1": 0.5}, "with": {"R@1": 0.5 + gains[seed], "loss": 1.0}}

    return Recipe("toy", "Toy", run, [CLAIM], **options)


@pytest.mark.parametrize(
    ("gains", "shows"),
    [
        ([0.1, 0.12, 0.11], True),
        ([0.1, 0.12, -0.01], False),  # one seed says otherwise
        ([0.01, 0.3, 0.01], False),  # the differences scatter more than they are large
        ([0.0, 0.0, 0.0], False),
        ([0.1, 0.12, math.nan], False),
        ([0.1], None),
    ],
)
def test_a_claim_must_hold_in_every_seed_and_stand_out(gains, shows):
    outcome = take(recipe(gains), range(len(gains)))
    assert outcome.to_json()["claims"][0]["shows"] is shows
    json.dumps(outcome.to_json(), allow_nan=False)


def test_lower_can_be_better():
    assert Claim("less loss", "loss", "b", "a", higher=False).differences(
        [{"a": {"loss": 3.0}, "b": {"loss": 1.0}}]
    ) == [2]


def test_many_metrics_go_down_and_what_an_arm_lacks_is_empty():
    few = [{"a": {"x": 1, "y": seed}, "b": {"x": 2}} for seed in range(2)]
    assert layout(few, str) == [["", "x", "y"], ["a", "[1, 1]", "[0, 1]"], ["b", "[2, 2]", ""]]
    many = [{"a": {str(metric): metric for metric in range(5)}, "b": {"0": 7}}]
    assert layout(many, str)[:3] == [["", "a", "b"], ["0", "[0]", "[7]"], ["1", "[1]", ""]]


def test_a_broken_invariant_is_said_and_fails_the_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(recipe([0.1] * 3, invariants=[holds, breaks]), [])
    out = capsys.readouterr().out
    assert stopped.value.code == 1 and "holds: holds" in out and "breaks: BROKEN two is three" in out
    with pytest.raises(SystemExit) as stopped:
        main(recipe([-0.1] * 3, invariants=[holds]), [])
    assert stopped.value.code == 0 and "does NOT show" in capsys.readouterr().out


def test_quick_takes_one_seed_and_draws_where_asked(tmp_path, capsys):
    def picture(runs, folder):
        path = folder / "toy.svg"
        path.write_text(str(len(runs)))
        return path

    with pytest.raises(SystemExit):
        main(recipe([0.1] * 3, picture=picture), ["--quick", "--json", "--out", str(tmp_path / "new")])
    found = json.loads(capsys.readouterr().out)
    assert found["quick"] and list(found["runs"]) == ["0"] and (tmp_path / "new" / "toy.svg").read_text() == "1"
    assert found["claims"][0]["shows"] is None
