"""What an experiment claims, held against what was measured."""

from collections.abc import Mapping
from typing import NamedTuple

from research.errors import nearest
from research.files import number


class Verdict(NamedTuple):
    """`outcome` is met, missed or not measured; `bound` says in words what was claimed; `remark` why not measured."""

    metric: str
    bound: str
    measured: float | None
    outcome: str
    remark: str = ""


def judge(claim: Mapping, results: Mapping[str, Mapping[str, float | None]]) -> Verdict:
    """The verdict on a claim {"metric": "test/accuracy", "at_least", "at_most"}, from {evaluation: {metric: number}}.

    Bounds are inclusive. A number that is absent, null or NaN was not measured.
    """
    metric, low, high = claim["metric"], claim.get("at_least"), claim.get("at_most")
    bounds = {"at least": low, "at most": high}
    bound = " and ".join(f"{word} {limit:g}" for word, limit in bounds.items() if limit is not None) or "no bound"
    valid = {f"{name}/{key}": value for name, found in results.items() for key, value in found.items()}
    measured = number(valid.get(metric))
    if measured is None:
        remark = "is not a number" if metric in valid else f"is not among the results.{nearest(metric, valid)}"
        return Verdict(metric, bound, None, "not measured", f"{metric} {remark}".rstrip())
    met = (low is None or measured >= low) and (high is None or measured <= high)
    return Verdict(metric, bound, measured, "met" if met else "missed")
