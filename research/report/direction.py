"""The main metric of a run, and whether a higher or lower value of a metric is better."""

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
    """Return {"test/accuracy": number} for all evaluations of a run: finite numbers only, without layer statistics."""
    sets = {name: metrics for name, metrics in results(run).items() if name != LAYERS}
    values = {f"{name}/{metric}": number(value) for name, metrics in sets.items() for metric, value in metrics.items()}
    return {name: value for name, value in values.items() if value is not None}


def main_metric(claims, names) -> str | None:
    """Choose the main metric among `names` ("test/accuracy", ...), or None if there are none.

    The metric of the first claim that is in `names` wins. Otherwise metrics named in `METRICS` come first, then the
    test set, the validation set and other sets, then the order accuracy, AUC, R2, bits per byte, loss.
    """
    names = list(names)
    for claim in claims or ():
        if claim.get("metric") in names:
            return claim["metric"]

    def rank(name):
        set_name, _, metric = name.partition("/")
        ranks = [order.index(x) if x in order else len(order) for x, order in ((set_name, SETS), (metric, METRICS))]
        return (ranks[1] == len(METRICS), *ranks)

    return min(names, key=rank, default=None)


def better(metric: str, claims=()) -> str | None:
    """Return "higher" or "lower", whichever is better for the metric, or None if unknown.

    A claim with one bound decides: `at_least` means higher, `at_most` lower. Otherwise a word in the name of the metric
    decides, such as accuracy or f1 (higher), loss or ece (lower).
    """
    for claim in claims or ():
        bounds = [claim.get("at_least") is not None, claim.get("at_most") is not None]
        if claim.get("metric") == metric and sum(bounds) == 1:
            return "higher" if bounds[0] else "lower"
    metric_name = metric.split("/")[1] if "/" in metric else metric  # "test/accuracy/worst_class" -> "accuracy"
    words = set(metric_name.lower().split("_"))
    directions = [name for name, keywords in (("lower", LOWER), ("higher", HIGHER)) if words & keywords]
    return directions[0] if directions else None


def named(metric: str, known: Mapping[str, float]) -> str:
    """Return the full name of `metric`, which must be in `known`.

    The set may be omitted if only one set has the metric. Raises UserError for an ambiguous or unknown name, and
    suggests the nearest name.
    """
    if metric in known:
        return metric
    matches = [name for name in known if name.partition("/")[2] == metric]
    if len(matches) > 1:
        raise UserError(f"the metric {metric!r} exists in several sets: {', '.join(matches)}. Choose one of them.")
    if not matches:
        raise unknown("metric", metric, known)
    return matches[0]
