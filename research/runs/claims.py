"""Check the claims of an experiment against its measured results."""

from collections.abc import Mapping
from typing import NamedTuple

from research.errors import nearest
from research.files import number


class Verdict(NamedTuple):
    """The result of checking one claim.

    `outcome` is "met", "missed" or "not measured". `bound` describes the claim, such as "at least 0.97". `remark`
    gives the reason if the metric was not measured.
    """

    metric: str
    bound: str
    measured: float | None
    outcome: str
    remark: str = ""


def judge(claim: Mapping, results: Mapping[str, Mapping[str, float | None]]) -> Verdict:
    """Check one claim {"metric": "test/accuracy", "at_least", "at_most"} against {evaluation: {metric: number}}.

    Bounds are inclusive. A number that is missing, null or NaN counts as not measured.
    """
    metric, low, high = claim["metric"], claim.get("at_least"), claim.get("at_most")
    bounds = {"at least": low, "at most": high}
    bound = " and ".join(f"{label} {limit:g}" for label, limit in bounds.items() if limit is not None) or "no bound"
    valid = {f"{name}/{key}": value for name, numbers in results.items() for key, value in numbers.items()}
    measured = number(valid.get(metric))
    if measured is None:
        remark = "is not a number" if metric in valid else f"is not among the results.{nearest(metric, valid)}"
        return Verdict(metric, bound, None, "not measured", f"{metric} {remark}".rstrip())
    met = (low is None or measured >= low) and (high is None or measured <= high)
    return Verdict(metric, bound, measured, "met" if met else "missed")
