"""Projections of the columns of numbers onto fewer."""

import numpy as np

from research.data.steps import Feature, Fitted, applied, chosen, matrix, namespace, step
from research.errors import UserError


@step
def pca(frame, count: int | float, *, columns=None, whiten: bool = False) -> Fitted:
    """Replace numbers by their principal components, `pca 0`, `pca 1`, ... (scikit-learn's PCA; Pearson 1901).

    `count` is the number of components, or, below 1, the share of the variance that they have to explain. `whiten`
    scales them to variance 1. Scale the columns before.
    """
    names, fitted = principal_components(frame, count, columns, what="project.pca()", whiten=whiten)
    scale = np.sqrt(fitted.explained_variance_) if whiten else np.ones(fitted.n_components_)
    arrays = {"mean": fitted.mean_, "directions": fitted.components_ / scale[:, None]}
    features = {name: feature for name, feature in frame.features.items() if name not in names}
    features |= {f"pca {i}": Feature("number") for i in range(fitted.n_components_)}
    return Fitted(projected, {"names": names}, arrays, features=features)


def principal_components(frame, count, columns, *, what: str, whiten: bool = False):
    """Return the columns and the PCA fitted to them. Raises UserError for a count that does not fit."""
    from sklearn.decomposition import PCA

    names = chosen(frame, columns, ("number",))
    x = matrix(frame, names, what=what)
    if not 0 < count <= min(x.shape):
        raise UserError(f"pca(count={count}); expected 1 to {min(x.shape)} components, or a share of the variance.")
    return names, PCA(count, svd_solver="full", whiten=whiten).fit(x)


@applied
def projected(columns, arrays, *, names):
    """Replace `names` by the products of (columns - `mean`) with each of `directions` [components, names]."""
    xp = namespace(columns)
    parts = (xp.stack([columns[name] for name in names], -1) - arrays["mean"]) @ arrays["directions"].T
    rest = {name: values for name, values in columns.items() if name not in names}
    return {**rest, **{f"pca {i}": parts[:, i] for i in range(parts.shape[1])}}
