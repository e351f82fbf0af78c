"""Records that are there twice: exact copies and near copies, within a set and between training and evaluation."""

import hashlib

import numpy as np

from research.diagnose.case import Case
from research.diagnose.data import inputs_of
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.tables import Table, flat

NEAR = 0.1  # of the usual distance to the nearest record
COMMON = 0.05  # the share of copies that short pieces of text, such as a licence's lines, have by themselves


def duplicates(case: Case, found: list[Table], *, most: int = 5_000) -> Outcome:
    """Copies by a hash of all inputs; near copies by distance (see `near`), in up to `most` records of each set.

    A problem where 0.5 % of an evaluation set, and at least two records, have a copy in training; worth a look where
    any has, and where 1 % of the training set are copies. Of text, whole numbers in rows, only exact copies are looked
    for; below 5 % nothing is said, and a problem begins at a half: the same words in two places are no mistake yet.
    Columns of few values repeat by nature: where a fifth of the training set are copies, a problem begins at 0.3 more.
    """
    rule, train = "duplicates", found[0]
    names = inputs_of(case, train)
    if train.drawn or not names:
        return Skipped(rule, "the training source draws its batches itself: its records are not at hand")
    marks = {table.name: _hashes(table, names) for table in found if all(name in table.fields for name in names)}
    known = {mark: row for row, mark in zip(train.rows, marks[train.name], strict=True)}
    within = len(train.rows) - len(known)
    of = dict(zip(train.rows.tolist(), marks[train.name], strict=True))
    close = [(a, b) for a, b in near(train, train, names=names, most=most) if of[a] != of[b]]
    said, evidence, worst = [], {"within training": within, "near, within training": len(close)}, 0.0
    text = all(train.fields[name].dtype.kind == "i" and train.fields[name].ndim == 2 for name in names)
    share = within / len(train.rows)
    natural = text or share >= 0.2  # columns of few values repeat in training as they do between the sets
    serious = 0.5 if text else share + 0.3 if natural else 0.005
    looks = within + len(close) >= max(2, (COMMON if natural else 0.01) * len(train.rows))
    if looks:
        said.append(f"{within:,} of {len(train.rows):,} training records are copies, {len(close):,} nearly so")
    # A measure that is no plain question may well look at training records on purpose, as a linear probe does.
    for table in found[1:] if case.question else []:
        if table.name not in marks:
            continue
        pairs = [(int(row), int(known[m])) for row, m in zip(table.rows, marks[table.name], strict=True) if m in known]
        exact = {row for row, _ in pairs}
        almost = [pair for pair in near(table, train, names=names, most=most) if pair[0] not in exact]
        both = len(exact) + len(almost)
        evidence[f"{table.name} in training"] = [list(pair) for pair in [*pairs, *almost][:50]]
        if both > (COMMON * len(table.rows) if natural else 0):
            said.append(f"{len(exact):,} of {len(table.rows):,} records of {table.name} are in training too, and "
                        f"{len(almost):,} nearly so, such as {[*pairs, *almost][0][0]} = {[*pairs, *almost][0][1]}"
                        f"{table.sampled}")  # fmt: skip
            worst = max(worst, both / len(table.rows) if both > 1 else 0)
    if not said:
        few = f"fewer than {100 * COMMON:.0f} % of the rows" if natural else "none"
        return Passed(rule, f"{few} within {train.name} or between it and the evaluations{train.sampled}")
    return Finding(rule, worst >= serious, "; ".join(said) + f"{train.sampled}.", (
        "keep each only once before splitting: _, rows = np.unique(features, axis=0, return_index=True)",
        "split so that copies stay together: folds(n, k, groups=..., seed=0)",
        "leave them out of the evaluation: subset(test, ...); a score on what was trained on says little",
    ), evidence)  # fmt: skip


def near(table: Table, train: Table, *, names, most: int = 5_000) -> list[tuple[int, int]]:
    """Pairs (record of `table`, record of `train`), copies included, nearer than a tenth of the median distance of a
    training record to its nearest other: ten times closer than is usual for these very data, whatever they are.

    Distances are Euclidean, of images after their own mean and contrast are taken out (so that a brighter copy is
    near), of columns after division by their standard deviations; above 64 features, of 64 random projections
    (Johnson & Lindenstrauss 1984; distances to about 10 %). Below 8 features nearness is common, and nothing is said.
    """
    from sklearn.neighbors import NearestNeighbors

    columns = [name for name in names if train.fields[name].dtype.kind in "fu"]
    if not columns or any(name not in table.fields for name in columns):
        return []
    sides = [np.concatenate([flat(t.fields[name][:most]) for name in columns], 1) for t in (train, table)]
    if sides[0].shape[1] < 8 or len(sides[0]) < 20 or not all(np.isfinite(x).all() for x in sides):
        return []
    if train.fields[columns[0]].ndim > 2:
        sides = [(x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6) for x in sides]
    else:
        centre, spread = sides[0].mean(0), sides[0].std(0)
        sides = [(x - centre) / np.where(spread > 0, spread, 1) for x in sides]
    if sides[0].shape[1] > 64:
        project = np.random.default_rng(0).normal(size=(sides[0].shape[1], 64)).astype(np.float32)
        sides = [x @ project for x in sides]
    search = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(sides[0])
    distances, neighbours = (x[:, 1] for x in search.kneighbors(sides[0]))
    usual = np.median(distances)
    if table is not train:
        distances, neighbours = (x[:, 0] for x in search.kneighbors(sides[1], n_neighbors=1))
    pairs = [(int(table.rows[i]), int(train.rows[neighbours[i]])) for i in np.flatnonzero(distances < NEAR * usual)]
    return sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}) if table is train else pairs


def _hashes(table, names) -> list[bytes]:
    columns = [np.ascontiguousarray(table.fields[name]) for name in names]
    return [hashlib.blake2b(b"".join(c[i].tobytes() for c in columns), digest_size=16).digest()
            for i in range(len(table.rows))]  # fmt: skip
