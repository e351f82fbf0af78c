"""Steps that make features of a clean table. Each is fitted on training rows by `research.data.fit`.

    scale      standard, center, min_max, max_abs, robust, quantile, power; all have an inverse, for targets
    encode     categories: one_hot, ordinal, frequency, target_mean, rare, spellings
    dates      parts, cyclic
    combine    crosses, polynomials, group_statistics, bins
    select     columns: variance, pearson, chi2, mutual_information, lasso, ridge, trees, permutation, recursive
    project    pca
    denoise    pca, autoencoder: numbers as a model of the training rows reproduces them
    smooth     series: moving_average, exponential, savitzky_golay

Contract: a step is `(frame, ...) -> Fitted` with the decorator `step`; its fitted numbers are arrays, and its `apply`
is arithmetic for numpy and JAX (see `research.data.steps`). To add one, copy `scale.py`.
"""

from research.data.features import combine, dates, denoise, encode, project, scale, select, smooth

__all__ = ["combine", "dates", "denoise", "encode", "project", "scale", "select", "smooth"]
