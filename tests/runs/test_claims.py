"""Claims against measurements."""

import math

import pytest

from research.runs.claims import judge

RESULTS = {"test": {"accuracy": 0.97, "loss": 0.2, "broken": None, "nan": math.nan}, "valid/ema": {"accuracy": 0.9}}


@pytest.mark.parametrize(
    ("metric", "low", "high", "outcome", "bound"),
    [
        ("test/accuracy", 0.97, None, "met", "at least 0.97"),
        ("test/accuracy", 0.971, None, "missed", "at least 0.971"),
        ("test/loss", None, 0.2, "met", "at most 0.2"),
        ("test/loss", None, 0.19, "missed", "at most 0.19"),
        ("test/loss", 0.1, 0.3, "met", "at least 0.1 and at most 0.3"),
        ("test/loss", 0.25, 0.3, "missed", "at least 0.25 and at most 0.3"),
        ("test/loss", None, None, "met", "no bound"),
        ("valid/ema/accuracy", 0.9, None, "met", "at least 0.9"),
        ("test/broken", 0.0, None, "not measured", "at least 0"),
        ("test/nan", 0.0, None, "not measured", "at least 0"),
        ("test/top_5", 0.0, None, "not measured", "at least 0"),
    ],
)
def test_verdicts(metric, low, high, outcome, bound):
    verdict = judge({"metric": metric, "at_least": low, "at_most": high, "reference": ""}, RESULTS)
    assert (verdict.outcome, verdict.bound) == (outcome, bound)
    assert (verdict.measured is None) == (outcome == "not measured") == bool(verdict.remark)


def test_a_metric_that_is_missing_names_the_nearest():
    remark = judge({"metric": "test/acuracy"}, RESULTS).remark
    assert remark == "test/acuracy is not among the results. Did you mean 'test/accuracy'?"
    assert judge({"metric": "test/accuracy"}, {}).outcome == "not measured"
