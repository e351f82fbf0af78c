"""Parts of dates. A date is a column of days since 1970-01-01, and `NAME time` has the seconds of the day.

The calendar is arithmetic (Gregorian; Hinnant, "chrono-compatible low-level date algorithms"), so it also runs in a
jitted function, and is exact in f32: both columns are.
"""

import numpy as np

from research.data.steps import Feature, Fitted, applied, chosen, namespace, step
from research.errors import unknown

PERIODS = {
    "month": 12,
    "day": 31,
    "weekday": 7,
    "day of year": 365.25,
    "hour": 24,
    "minute": 60,
    "second of day": 86400,
}
PARTS = ("year", "month", "day", "weekday", "day of year", "hour", "minute")


@step
def parts(frame, *, columns=None, parts=("year", "month", "day", "weekday", "hour"), keep_days: bool = False) -> Fitted:
    """Replace each date by the numbers `NAME year`, `NAME month` (from 1), `NAME weekday` (0 is Monday), ...

    `parts` are among year, month, day, weekday, day of year, hour and minute; the last two are left out for a column
    without times.
    `keep_days` adds `NAME days`, the days since 1970-01-01, for a trend.
    """
    return _fit(frame, columns, parts, keep_days, cyclic=False)


@step
def cyclic(frame, *, columns=None, parts=("month", "weekday", "hour"), keep_days: bool = False) -> Fitted:
    """Replace each date by sine and cosine of its parts, so that December is next to January.

    A part p of a period P becomes sin(2 pi p / P) and cos(2 pi p / P): `NAME month sin` and `NAME month cos`.
    """
    return _fit(frame, columns, parts, keep_days, cyclic=True)


def _fit(frame, columns, parts, keep_days, cyclic):
    names = [name for name in chosen(frame, columns, ("date",)) if not name.endswith(" time")]
    features, made = dict(frame.features), {}
    for part in parts:
        if part not in (PERIODS if cyclic else PARTS):
            raise unknown("part of a date", part, set(PERIODS if cyclic else PARTS))
    for name in names:
        del features[name]
        times = features.pop(f"{name} time", None) is not None
        made[name] = [part for part in parts if times or part not in ("hour", "minute", "second of day")]
        ends = (" sin", " cos") if cyclic else ("",)
        new = [f"{name} {part}{end}" for part in made[name] for end in ends] + [f"{name} days"] * keep_days
        features |= {one: Feature("number") for one in new}
    settings = {"made": made, "keep_days": keep_days, "cyclic": cyclic}
    return Fitted(calendar, settings, {}, features=features)


@applied
def calendar(columns, arrays, *, made, keep_days, cyclic):
    """Replace each date of `made` {name: parts} by its parts."""
    xp, columns = namespace(columns), dict(columns)
    for name, wanted in made.items():
        days = columns.pop(name)
        values = {**date_parts(xp, days), **time_parts(xp, columns.pop(f"{name} time", xp.zeros_like(days)))}
        for part in wanted:
            if cyclic:
                angle = values[part] * (2 * np.pi / PERIODS[part])
                columns |= {f"{name} {part} sin": xp.sin(angle), f"{name} {part} cos": xp.cos(angle)}
            else:
                columns[f"{name} {part}"] = values[part]
        if keep_days:
            columns[f"{name} days"] = days
    return columns


def date_parts(xp, days) -> dict:
    """Return the parts of days since 1970-01-01 [n]; a missing day gives missing parts."""
    shifted = days + 719468  # since 0000-03-01
    era = xp.floor(shifted / 146097)
    day_of_era = shifted - era * 146097
    year_of_era = xp.floor(
        (day_of_era - xp.floor(day_of_era / 1460) + xp.floor(day_of_era / 36524) - xp.floor(day_of_era / 146096)) / 365
    )
    since_march = day_of_era - (365 * year_of_era + xp.floor(year_of_era / 4) - xp.floor(year_of_era / 100))
    place = xp.floor((5 * since_march + 2) / 153)
    month = xp.where(place < 10, place + 3, place - 9)
    year = year_of_era + era * 400 + xp.where(month <= 2, 1, 0)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return {
        "year": year,
        "month": month,
        "day": since_march - xp.floor((153 * place + 2) / 5) + 1,
        "weekday": (days + 3) % 7,
        "day of year": xp.where(place >= 10, since_march - 305, since_march + 60 + leap),
    }


def time_parts(xp, seconds) -> dict:
    """Return the parts of seconds since midnight [n]."""
    return {"hour": xp.floor(seconds / 3600), "minute": xp.floor(seconds / 60) % 60, "second of day": seconds}
