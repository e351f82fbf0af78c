"""Duplicate records: exact and near copies, within the training set and between it and the evaluation sets."""

import hashlib

import numpy as np

from research.diagnose.case import Case
from research.diagnose.data import inputs_of
from research.diagnose.duplicates import near_rows
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.tables import Table, flat

COMMON = 0.05  # the fraction of copies that is natural in short text, such as the lines of a licence


def duplicates(case: Case, found: list[Table], *, most: int = 5_000) -> Outcome:
    """Find exact copies, by a hash of all inputs, and near copies, by distance (see `near`).

    Near copies are searched in up to `most` records of each set. A problem if 0.5 % of an evaluation set, and at least
    two records, have a copy in training. Worth a look if any record has one, or if 1 % of the training set are copies.
    Text (rows of integers) repeats naturally: only exact copies count, fewer than 5 % are ignored, and the limit for a
    problem is one half. Columns with few values repeat, too: if a fifth of the training set are copies, fewer than 5 %
    are ignored and the limit is the fraction of copies in training plus 0.3.
    """
    rule, train = "duplicates", found[0]
    names = inputs_of(case, train)
    if train.drawn or not names:
        return Skipped(rule, "the training source generates its batches, so there are no records to compare")
    hashes = {table.name: _hashes(table, names) for table in found if all(name in table.fields for name in names)}
    row_of = {digest: row for row, digest in zip(train.rows, hashes[train.name], strict=True)}
    within = len(train.rows) - len(row_of)
    digest_of = dict(zip(train.rows.tolist(), hashes[train.name], strict=True))
    close = [(a, b) for a, b in near(train, train, names=names, most=most) if digest_of[a] != digest_of[b]]
    texts, evidence, worst = [], {"within training": within, "near, within training": len(close)}, 0.0
    text = all(train.fields[name].dtype.kind == "i" and train.fields[name].ndim == 2 for name in names)
    fraction = within / len(train.rows)
    natural = text or fraction >= 0.2  # columns of few values repeat in training as they do between the sets
    limit = 0.5 if text else fraction + 0.3 if natural else 0.005
    notable = within + len(close) >= max(2, (COMMON if natural else 0.01) * len(train.rows))
    if notable:
        texts.append(f"{within:,} of {len(train.rows):,} training records are copies, {len(close):,} are near copies")
    # Without a question the measure may use training records on purpose, as a linear probe does.
    for table in found[1:] if case.question else []:
        if table.name not in hashes:
            continue
        pairs = [
            (int(row), int(row_of[h])) for row, h in zip(table.rows, hashes[table.name], strict=True) if h in row_of
        ]
        exact = {row for row, _ in pairs}
        almost = [pair for pair in near(table, train, names=names, most=most) if pair[0] not in exact]
        both = len(exact) + len(almost)
        evidence[f"{table.name} in training"] = [list(pair) for pair in [*pairs, *almost][:50]]
        if both > (COMMON * len(table.rows) if natural else 0):
            texts.append(f"{len(exact):,} of {len(table.rows):,} records of {table.name} are also in training, "
                        f"{len(almost):,} are near copies, such as {[*pairs, *almost][0][0]} = "
                        f"{[*pairs, *almost][0][1]}{table.sampled}")  # fmt: skip
            worst = max(worst, both / len(table.rows) if both > 1 else 0)
    if not texts:
        few = f"fewer than {100 * COMMON:.0f} % of the rows" if natural else "none"
        return Passed(rule, f"{few} within {train.name} or between it and the evaluations{train.sampled}")
    return Finding(rule, worst >= limit, "; ".join(texts) + f"{train.sampled}.", (
        "remove copies before splitting: _, rows = np.unique(features, axis=0, return_index=True)",
        "keep copies in the same part of a split: folds(n, k, groups=..., seed=0)",
        "drop them from the evaluation: subset(test, ...); a score on training records is too high",
    ), evidence)  # fmt: skip


def near(table: Table, train: Table, *, names, most: int = 5_000) -> list[tuple[int, int]]:
    """Return pairs (record of `table`, record of `train`) of near copies, exact copies included.

    Each image is normalised by its own mean and contrast, so that a brighter copy is near. Columns are divided by their
    standard deviations. Pairs are those of `duplicates.near_rows`, among up to `most` records of each set.
    """
    columns = [name for name in names if train.fields[name].dtype.kind in "fu"]
    if not columns or any(name not in table.fields for name in columns):
        return []
    sides = [np.concatenate([flat(t.fields[name][:most]) for name in columns], 1) for t in (train, table)]
    if not all(np.isfinite(x).all() for x in sides):
        return []
    if train.fields[columns[0]].ndim > 2:
        sides = [(x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6) for x in sides]
    else:
        centre, spread = sides[0].mean(0), sides[0].std(0)
        sides = [(x - centre) / np.where(spread > 0, spread, 1) for x in sides]
    pairs = near_rows(sides[0], None if table is train else sides[1])
    return [(int(table.rows[row]), int(train.rows[original])) for row, original in pairs]


def _hashes(table, names) -> list[bytes]:
    columns = [np.ascontiguousarray(table.fields[name]) for name in names]
    return [hashlib.blake2b(b"".join(c[i].tobytes() for c in columns), digest_size=16).digest()
            for i in range(len(table.rows))]  # fmt: skip
