"""Steps that clean a table: missing values and outliers. Each is fitted on training rows by `research.data.fit`.

    missing       constant, mean, median, most_frequent, as_category, by_group, interpolate, forward, delete
    neighbours    neighbours: k nearest training rows
    chained       chained: regression of each column on the others, in rounds; with `draw` for multiple imputation
    pooling       pooled: one result of several, by Rubin's rules (no step)
    outliers      clip, flag, drop, with a rule: sigma, robust, iqr, quantiles; winsorise
    isolation     isolation forest: flag, drop

Contract: a step is `(frame, ...) -> Fitted` with the decorator `step`; its fitted numbers are arrays, and its `apply`
is arithmetic for numpy and JAX (see `research.data.steps`). To add one, copy `missing.py`.
"""

from research.data.clean import chained, isolation, missing, neighbours, outliers

__all__ = ["chained", "isolation", "missing", "neighbours", "outliers"]
