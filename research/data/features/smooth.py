"""Series without their noise: each number becomes a mean of its neighbours in time.

The rows are in the order of time, or a column names it: `time="day"`. With `group="shop"`, each category is a series of
its own. Rows keep their places. Neighbours are looked for among the given rows alone, so new rows need those before
them. Only `savitzky_golay` uses later rows, which a forecast does not have.
"""

import numpy as np

from research.data.steps import Fitted, along_rows, applied, chosen, matrix, namespace, step
from research.errors import UserError, check_range


@step
def moving_average(frame, window: int, *, columns=None, group: str | None = None, time: str | None = None) -> Fitted:
    """Replace numbers by the mean of the row and the `window` - 1 rows before it, or as many as there are.

    Missing values do not count, and are filled if the window has a known value.
    """
    if window < 1:
        raise UserError(f"smooth.moving_average(window={window}); expected at least 1 row.")
    return Fitted(averaged, {**_series(frame, columns, group, time), "window": window}, {})


@along_rows
@applied
def averaged(columns, arrays, *, names, window, group, time):
    """Average each column over the last `window` rows of its series."""
    xp, order, start, _ = _ordered(columns, group, time)
    places = xp.arange(len(order))

    def smooth(x):
        total, count = xp.zeros_like(x), xp.zeros_like(x)
        for back in range(min(window, len(x))):
            value = x[xp.maximum(places - back, 0)]
            used = (places - back >= start) & ~xp.isnan(value)
            total, count = total + xp.where(used, value, 0.0), count + used
        return xp.where(count > 0, total / xp.maximum(count, 1), xp.nan)

    return _replaced(xp, columns, names, order, smooth)


@step
def exponential(frame, alpha: float, *, columns=None, group: str | None = None, time: str | None = None) -> Fitted:
    """Replace numbers by s_t = `alpha` x_t + (1 - `alpha`) s_(t-1), with s_0 = x_0 (Brown 1956).

    A missing value is filled with the last s.
    """
    check_range("smooth.exponential", alpha=(alpha, 0, 1))
    return Fitted(decayed, {**_series(frame, columns, group, time), "alpha": alpha}, {})


@along_rows
@applied
def decayed(columns, arrays, *, names, alpha, group, time):
    """Smooth each column exponentially along its series."""
    xp, order, start, _ = _ordered(columns, group, time)
    places = xp.arange(len(order))

    def smooth(x):
        known = ~xp.isnan(x)
        last = xp.maximum.accumulate(xp.where(known, places, -1))  # the last known place up to each
        before = xp.concatenate([xp.full(1, -1), last[:-1]])
        later = before >= start
        # s_t = keep_t s_(t-1) + add_t. Each pass composes these maps over twice as many rows.
        keep = xp.where(later, xp.where(known, 1.0 - alpha, 1.0), 0.0)
        add = xp.where(known, xp.where(later, alpha, 1.0) * x, 0.0)
        span = 1
        while span < len(x):
            add = xp.concatenate([add[:span], add[span:] + keep[span:] * add[:-span]])
            keep = xp.concatenate([keep[:span], keep[span:] * keep[:-span]])
            span *= 2
        return xp.where(last >= start, add, xp.nan)

    return _replaced(xp, columns, names, order, smooth)


@step
def savitzky_golay(
    frame, window: int, degree: int = 2, *, columns=None, group: str | None = None, time: str | None = None
) -> Fitted:
    """Replace numbers by the value of a polynomial of `degree`, fitted to the `window` rows around each (Savitzky &
    Golay 1964; `savgol_filter` of SciPy). At the ends of a series it is the polynomial of the first or last window.

    Rows count as equally spaced. A series with fewer rows than the window stays as it is. Raises UserError for missing
    values, and for a window that is not odd and larger than the degree.
    """
    from scipy.signal import savgol_coeffs

    if window % 2 == 0 or not 0 <= degree < window:
        raise UserError(
            f"smooth.savitzky_golay(window={window}, degree={degree}); expected an odd window and a smaller degree."
        )
    settings = _series(frame, columns, group, time)
    matrix(frame, settings["names"], what="smooth.savitzky_golay()")
    weights = [savgol_coeffs(window, degree, pos=place, use="dot") for place in range(window)]
    return Fitted(fitted_value, settings, {"weights": np.array(weights)})


@along_rows
@applied
def fitted_value(columns, arrays, *, names, group, time):
    """Apply `weights` [place in the window, window] to the window of each row."""
    xp, order, start, end = _ordered(columns, group, time)
    window, places = len(arrays["weights"]), xp.arange(len(order))
    long = end - start >= window
    first = xp.clip(places - window // 2, start, xp.maximum(end - window, start))
    weights = xp.asarray(arrays["weights"])[xp.minimum(places - first, window - 1)]
    rows = xp.minimum(first[:, None] + xp.arange(window), len(order) - 1)
    return _replaced(xp, columns, names, order, lambda x: xp.where(long, xp.sum(weights * x[rows], -1), x))


def _series(frame, columns, group, time):
    """Return the settings names, group and time, checked."""
    chosen(frame, [] if group is None else [group], ("category",))
    chosen(frame, [] if time is None else [time], ("date", "number"))
    names = [name for name in chosen(frame, columns, ("number",)) if name != time]
    return {"names": names, "group": group, "time": time}


def _ordered(columns, group, time):
    """Return the namespace, the rows by group and time [n], and the first place and the end of the series of each."""
    xp, count = namespace(columns), len(next(iter(columns.values())))
    codes = xp.zeros(count) if group is None else xp.nan_to_num(columns[group], nan=-1.0)
    times = [] if time is None else [columns[name] for name in (f"{time} time", time) if name in columns]
    order, places = xp.lexsort(tuple([*times, codes])), xp.arange(count)
    codes = codes[order]
    new = xp.concatenate([xp.ones(min(count, 1), bool), codes[1:] != codes[:-1]])
    start = xp.maximum.accumulate(xp.where(new, places, 0))
    last = xp.concatenate([new[1:], xp.ones(min(count, 1), bool)])
    end = count - xp.maximum.accumulate(xp.where(last[::-1], places, 0))[::-1]
    return xp, order, start, end


def _replaced(xp, columns, names, order, smooth):
    """Return the columns with `smooth` applied to each of `names` in that order, and put back in place."""
    back = xp.argsort(order)
    return {**columns, **{name: smooth(columns[name][order])[back] for name in names}}
