"""The rows of a table in two dimensions: principal components and t-SNE of the features that the advice makes."""

import warnings
from typing import NamedTuple

import numpy as np

from research.data.fitting import fit
from research.data.readers.arrays import subset
from research.data.readers.table import Table
from research.errors import UserError
from research.explore.advice import preparation, unused
from research.explore.columns import coded, groups_of, summary

MOST_ROWS, MOST_COLUMNS = 20_000, 200
MOST_POINTS = 1_200  # t-SNE takes seconds for them
FEW_ROWS = 20


class Sample(NamedTuple):
    """Random `rows` [n] of a table, ascending, and their features, f32 [n, features]; or the `reason` for none."""

    rows: np.ndarray
    features: np.ndarray
    reason: str = ""


class Views(NamedTuple):
    """Points [n, 2] of `rows` [n] of the table, or the `reason` why there are none.

    pca: the first two principal components; `explained` [2] are their fractions of the variance
    tsne: by t-SNE (van der Maaten & Hinton 2008), after a reduction to 30 principal components
    features, fitted: the numbers of features, and of rows that the principal components were fitted on
    """

    rows: np.ndarray
    pca: np.ndarray
    explained: np.ndarray
    tsne: np.ndarray
    features: int = 0
    fitted: int = 0
    reason: str = ""


def sample(table: Table, *, seed: int = 0) -> Sample:
    """Return the features that the advice makes of at most MOST_ROWS rows and MOST_COLUMNS columns, not the target.

    Constant features are left out.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(table))[:MOST_ROWS])
    names = [name for name in table.schema if name != table.target][:MOST_COLUMNS]
    if not names:
        return Sample(rows, np.zeros((len(rows), 0)), "no column is a feature.")
    if len(rows) < FEW_ROWS:
        return Sample(rows, np.zeros((len(rows), 0)), f"{len(rows)} rows are too few; it needs {FEW_ROWS}.")
    small = Table({n: table.columns[n][rows] for n in names}, {n: table.schema[n] for n in names}, None, table.source)
    try:
        with np.errstate(all="ignore"):  # numbers near the largest one: a feature that is not finite is an error
            features = _features(small)
    except UserError as error:
        return Sample(rows, np.zeros((len(rows), 0)), str(error))
    return Sample(rows, features, "" if features.shape[1] > 1 else "fewer than two features vary.")


def _features(table) -> np.ndarray:
    codes = coded(table)
    infinite = [name for name, values in table.columns.items() if values.dtype.kind == "f" and np.isinf(values).any()]
    table = table.with_columns(**{name: codes[name] for name in infinite}) if infinite else table
    groups = groups_of(table, codes)
    summaries = {name: summary(table, name, codes, groups) for name in table.schema}
    steps = [advised.step for advised in preparation(summaries)]
    if not steps:
        raise UserError("no column is a feature.")
    everything = subset(table, np.arange(len(table)))
    features = fit(everything, *steps, without=tuple(unused(summaries)))(everything, training=False)
    x = features.columns["features"]
    return x[:, np.ptp(x, 0) > 0]


def views(found: Sample, *, seed: int = 0) -> Views:
    """Project MOST_POINTS random rows of a sample."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if found.reason:
        return Views(found.rows[:0], *[np.zeros((0, 2))] * 3, reason=found.reason)
    features = found.features
    model = PCA(min(30, *features.shape), random_state=seed).fit(features)
    points = np.sort(np.random.default_rng(seed).permutation(len(features))[:MOST_POINTS])
    reduced = model.transform(features[points])
    # Threads of OpenMP wait for each other in a loop: on a busy machine, 1,000 steps took minutes.
    with threadpool_limits(1, "openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows that are all equal
        tsne = TSNE(perplexity=min(30, (len(points) - 1) / 3), init="random", random_state=seed).fit_transform(reduced)
    explained = model.explained_variance_ratio_[:2].astype(np.float64)
    return Views(found.rows[points], reduced[:, :2], explained, tsne, features.shape[1], len(features))
