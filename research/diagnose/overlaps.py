"""Records that are on both sides of a split: copies, groups, and rows that are later than those of another part."""

import itertools

import numpy as np

from research.data.readers import cells
from research.data.schema import is_key
from research.diagnose.duplicates import near_rows, near_texts, repeated_rows
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.parts import Parts, matrices, row_limit
from research.errors import UserError, format_names

ROWS, NEAR_ROWS = 20_000, 5_000  # the most rows of the training part, and of another, in a search for near copies
SLACK = 2.0  # columns that depend on each other make more coincidences than estimated
FEW_COPIES = 0.005  # the fraction of copies in a part that is a problem
LEVEL = 0.001  # the probability that coincidences are taken for copies


def copies(parts: Parts, *, level=LEVEL, without=(), seed=0) -> Outcome:
    """Find the rows of each part that are equal or similar to a training row, apart from target and identifiers.

    Equal rows are found by hashes, and must be more than coincidences explain (`duplicates.repeated_rows`). Near copies
    are searched among up to 5,000 rows of the part and 20,000 of the training part, by distances of rows and images and
    by common stretches of texts. A problem if at least two rows and 0.5 % of a part are copies, otherwise worth a look.
    """
    from scipy.stats import poisson

    rule, train = "duplicates", parts.train
    names = [n for n in parts.schema if n not in (parts.target, *without) and parts.schema[n].kind != "identifier"]
    if not train.arrays and (not names or len(names) == 1 and parts.schema[names[0]].kind != "text"):
        return Skipped(rule, "equal rows of less than two columns besides target and identifiers are no copies")
    fields = lambda part: {**{name: part.columns[name] for name in names}, **part.arrays}
    texts, evidence, problem, natural = [], {}, False, 0
    for part in parts.others:
        found = repeated_rows(fields(train), fields(part))
        chance = SLACK * found.by_chance
        exact = len(found.rows) if found.pairs > poisson.isf(level, chance) else 0
        natural += len(found.rows) - exact
        equal = set(found.rows.tolist())
        near = [pair for pair in _near(parts, part, names, seed) if pair[0] not in equal]
        if not exact and not near:
            continue
        pairs = [*zip(found.rows.tolist(), found.originals.tolist(), strict=True)] if exact else []
        evidence[f"{part.name} in {train.name}"] = [list(pair) for pair in [*pairs, *near][:50]]
        row, original = [*pairs, *near][0]
        text = f"{exact:,} of {part.size:,} rows of {part.name} are also in {train.name}, {len(near):,} are near copies"
        text += f" ({NEAR_ROWS:,} rows were examined)" if part.size > NEAR_ROWS else ""
        text += f", such as row {row}, a copy of row {original}"
        texts.append(text + (f"; {chance:.0f} pairs of equal rows are expected by chance" if chance >= 1 else ""))
        share = exact * (1 - chance / max(found.pairs, 1)) / part.size + len(near) / min(part.size, NEAR_ROWS)
        problem |= exact + len(near) > 1 and share >= FEW_COPIES
    if not texts:
        by_chance = f", except for {natural:,} that are equal by chance" if natural else ""
        return Passed(rule, f"no part has rows of {train.name}{by_chance}")
    return Finding(rule, bool(problem), "; ".join(texts) + ".", (
        "remove copies before splitting: _, rows = np.unique(features, axis=0, return_index=True)",
        "keep copies in one part: grouped(np.unique(features, axis=0, return_inverse=True)[1], (0.8, None), seed=0)",
        "if rows were copied to balance classes, do so after splitting, on training rows: research.data.balance",
    ), evidence)  # fmt: skip


def _near(parts, part, names, seed) -> list[tuple[int, int]]:
    """Return the pairs (row of the part, row of the training part) of near copies, by their numbers."""
    rows, of_train = (
        np.sort(np.random.default_rng(seed).permutation(side.size)[: row_limit(most, len(names))])
        for side, most in ((part, NEAR_ROWS), (parts.train, ROWS))
    )
    train, other = parts.train.take(of_train), part.take(rows)
    pairs = []
    for name in names:
        if parts.schema[name].kind == "text":
            pairs += near_texts(train.columns[name], other.columns[name])
    numeric = [name for name in names if parts.schema[name].kind in ("number", "integer", "category", "date")]
    if numeric and any(parts.schema[name].kind == "number" for name in numeric) or train.arrays:
        pairs += near_rows(*matrices(parts, [train, other], names=numeric, contrast=False))
    return sorted({(int(rows[row]), int(of_train[original])) for row, original in pairs})


def groups(parts: Parts, names) -> Outcome:
    """Find the groups that are in two parts, a problem.

    Without `names`, the columns that are named like a key, such as patient_id, are examined. If one of them has the
    same value in several training rows, or is an identifier that does not count the rows, and shares values with
    another part, that is worth a look.
    """
    rule, shared = "groups", {}
    candidates = names or [
        name for name, column in parts.schema.items()
        if (is_key(name) or column.kind == "identifier") and name != parts.target
    ]  # fmt: skip
    if not candidates:
        return Skipped(rule, "no column is named like a key; name the groups: group=")
    for name in candidates:
        sides = {part.name: cells.strings(part.columns[name]) for part in parts.all if name in part.columns}
        values = {side: set(found.tolist()) - {""} for side, found in sides.items()}
        if not names and _counts_rows(parts.train.columns[name]):
            continue
        for one, other in itertools.combinations(values, 2):
            if both := values[one] & values[other]:
                rows = int(np.isin(sides[other], list(both)).sum())
                shared[name, one, other] = (len(both), rows, len(sides[other]), sorted(both)[0])
    if not shared:
        return Passed(rule, f"no value of {format_names(candidates)} is in two parts")
    texts = [
        f"{count:,} values of {name} are in {one} and {other}, such as {example!r}: {rows:,} of {total:,} rows"
        f" of {other}"
        for (name, one, other), (count, rows, total, example) in shared.items()
    ]
    return Finding(rule, bool(names), format_names(texts, 5) + ".", (
        f"keep groups together: grouped(data.column({next(iter(shared))[0]!r}), (0.8, None), seed=0)",
        "for cross-validation: folds(n, 5, groups=..., seed=0)",
        "ignore this if the model is to predict for groups that it has seen",
    ), {" ".join(key): list(found[:3]) for key, found in shared.items()})  # fmt: skip


def _counts_rows(values) -> bool:
    """Return whether a column numbers the rows, in any order: numbers without gaps or repetitions."""
    if values.dtype == object or not np.isfinite(numbers := values.astype(np.float64)).all():
        return False
    return len(np.unique(numbers)) == len(numbers) == np.ptp(numbers) + 1


def time_order(parts: Parts, name: str | None, *, guess: bool = False) -> Outcome:
    """Find the training rows that are later than a row of another part, a problem.

    Without `name`, a `guess` examines a single column of dates; later rows are then only worth a look.
    """
    rule, dates, given = "time order", parts.names("date"), name is not None
    if not given and not (guess and len(dates) == 1):
        columns = f": {format_names(dates)}" if dates else ""
        return Skipped(rule, f"time= does not name a column of times{columns}")
    name = name or dates[0]
    if parts.schema[name].kind not in ("date", "number", "integer"):
        raise UserError(f"time={name!r} is a column of kind {parts.schema[name].kind}; expected a date or a number.")
    own, found = _times(parts.train, name), {}
    for part in parts.others:
        theirs = _times(part, name)
        if len(own) and len(theirs) and (later := int((own > theirs.min()).sum())):
            found[part.name] = later
    if not found:
        others = format_names([part.name for part in parts.others])
        return Passed(rule, f"no row of {parts.train.name} is later than a row of {others} by {name}")
    texts = [f"{later:,} of {len(own):,} rows of {parts.train.name} are later than the first row of {other}"
             for other, later in found.items()]  # fmt: skip
    return Finding(rule, given, f"By {name}, {format_names(texts)}.", (
        f"split by time: chronological(data.column({name!r}), (0.8, None))",
        "for cross-validation: time_folds(times, 5)",
        "ignore this if the model does not predict the future from the past",
    ), found)  # fmt: skip


def _times(part, name) -> np.ndarray:
    times = part.coded[name] * 86_400 + part.coded.get(f"{name} time", 0)
    return times[~np.isnan(times)]
