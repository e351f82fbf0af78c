"""Which of a run's numbers to look at first, and whether more of it is better."""

from collections.abc import Mapping

from research.errors import UserError, unknown
from research.files import number
from research.runs.reader import LAYERS, Run, results

SETS, METRICS = ("test", "valid"), ("accuracy", "auc", "r2", "bits_per_byte", "loss")
HIGHER = {
    "accuracy", "auc", "precision", "recall", "f1", "r2", "top", "score", "return", "reward", "bleu", "iou", "map",
    "hits", "nds",
}  # fmt: skip
LOWER = {
    "loss", "error", "ece", "brier", "mse", "mae", "rmse", "perplexity", "bits", "nats", "nll", "distance", "fid",
    "regret", "epsilon", "frechet", "negative",
}  # fmt: skip


def numbers(run: Run) -> dict[str, float]:
    """{"test/accuracy": number} of all evaluations of a run but its layers' statistics, finite numbers only."""
    told = {of: found for of, found in results(run).items() if of != LAYERS}
    found = {f"{of}/{metric}": number(value) for of, numbers in told.items() for metric, value in numbers.items()}
    return {name: value for name, value in found.items() if value is not None}


def main_metric(claims, names) -> str | None:
    """The metric to look at first among `names` ("test/accuracy", ...): that of the first claim, else of the test set
    before the validation set before others, accuracy, AUC, R2, bits and loss before others. None where there is none.
    """
    names = list(names)
    for claim in claims or ():
        if claim.get("metric") in names:
            return claim["metric"]

    def place(name):
        of, _, metric = name.partition("/")
        ranks = [order.index(x) if x in order else len(order) for x, order in ((of, SETS), (metric, METRICS))]
        return (ranks[1] == len(METRICS), *ranks)

    return min(names, key=place, default=None)


def better(metric: str, claims=()) -> str | None:
    """The word "higher" or "lower", whichever is better of "test/accuracy"; None where nobody can tell.

    A claim on it decides: at least this, or at most. Else a word in its name does: accuracy, f1, ..., loss, ece, ...
    """
    for claim in claims or ():
        bounds = [claim.get("at_least") is not None, claim.get("at_most") is not None]
        if claim.get("metric") == metric and sum(bounds) == 1:
            return "higher" if bounds[0] else "lower"
    own = metric.split("/")[1] if "/" in metric else metric  # of "test/accuracy/worst_class": accuracy
    words = set(own.lower().split("_"))
    found = [name for name, known in (("lower", LOWER), ("higher", HIGHER)) if words & known]
    return found[0] if found else None


def named(metric: str, known: Mapping[str, float]) -> str:
    """`metric`, checked to be among those known; a name without its set will do where one set alone has it.

    Raises UserError with the nearest name.
    """
    if metric in known:
        return metric
    found = [name for name in known if name.partition("/")[2] == metric]
    if len(found) > 1:
        raise UserError(f"the metric {metric!r} is of several sets: {', '.join(found)}. Give one of them.")
    if not found:
        raise unknown("metric", metric, known)
    return found[0]
