"""The measure of a survival model's evaluation, and the concordance index."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from research.axes import Float, Num, Shaped
from research.core import Rows, Trained, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field
from research.metrics.scores import Finish
from research.objectives.survival import log_hazards


def measure_survival(*, inputs: str = "features", times: str = "time", events: str = "event") -> Callable:
    """Return the measure of a survival model's Eval: events (their fraction), and rows of log_hazard, time and event.

    Use it with `finish=concordance()`. Examples of mask 0 do not count. The measure raises UserError if the batch lacks
    a field, and for log hazards of another shape.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        x, t, e = (field(batch, name) for name in (inputs, times, events))
        h, weights = log_hazards(trained(x), len(x)), example_weights(batch, len(x))
        rows = {"log_hazard": h, "time": t, "event": e}
        return {"events": weighted_mean((e > 0).astype(weights.dtype), weights), "rows": Rows(rows, weights)}

    return measure


def concordance() -> Finish:
    """Return a `finish` that computes c_index (see `concordance_index`) from the rows of `measure_survival`."""

    def finish(results: Mapping) -> dict[str, float]:
        rows = results.get("rows")
        if rows is None or "log_hazard" not in rows:
            raise UserError("concordance needs the rows of measure_survival; the measure returns none.")
        return {"c_index": concordance_index(*(np.asarray(rows[name]) for name in ("log_hazard", "time", "event")))}

    return finish


def concordance_index(
    log_hazards: Float[np.ndarray, " rows"], times: Num[np.ndarray, " rows"], events: Shaped[np.ndarray, " rows"]
) -> float:
    """Return Harrell's C (Harrell et al. 1982): the fraction of comparable pairs in which the earlier event had the
    higher hazard.

    A pair is comparable if the earlier time is that of an event; at equal times, if one of them is an event and the
    other is censored, which is then the later one. Equal hazards count half. 1/2 is chance. NaN without a comparable
    pair. Raises UserError for hazards that are not finite.
    """
    if not np.isfinite(log_hazards).all():
        raise UserError("the concordance index needs finite log hazards.")
    happened = events > 0
    right, pairs = 0.0, 0
    for i in np.flatnonzero(happened):
        later = (times > times[i]) | ((times == times[i]) & ~happened)
        right += (log_hazards[later] < log_hazards[i]).sum() + (log_hazards[later] == log_hazards[i]).sum() / 2
        pairs += later.sum()
    return float(right / pairs) if pairs else float("nan")
