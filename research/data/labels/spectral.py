"""Labels for all records from a few, by spectral clustering: records of one cluster share a class."""

from __future__ import annotations

import numpy as np

from research.axes import Float, Int
from research.data.sampling.batches import check_seed
from research.errors import UserError


def spectral_labels(
    features: Float[np.ndarray, "rows features"], labels: Int[np.ndarray, " rows"], *, num_clusters: int,
    neighbours: int = 10, seed: int,
) -> Int[np.ndarray, " rows"]:  # fmt: skip
    """Return the labels [rows], where known, and elsewhere the most frequent known label of the row's cluster.

    Clusters are those of scikit-learn's SpectralClustering on the graph of `neighbours` nearest neighbours (Ng, Jordan
    & Weiss 2002). Unknown labels are -1, also in the result for a cluster without a known label: take more clusters
    than classes, because a class may have several. Raises UserError without a known label, for features that are not
    [rows, features], and for a number of clusters that is not between 2 and the number of rows.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise UserError(
            f"features {list(features.shape)} and labels {list(labels.shape)}; expected [rows, features] and [rows]."
        )
    if not (labels >= 0).any():
        raise UserError("spectral_labels needs a row whose label is known; all are -1.")
    if not 2 <= num_clusters < len(features):
        raise UserError(f"num_clusters={num_clusters} of {len(features)} rows; expected 2 to {len(features) - 1}.")
    from sklearn.cluster import SpectralClustering

    model = SpectralClustering(
        num_clusters, affinity="nearest_neighbors", n_neighbors=min(neighbours, len(features) - 1),
        random_state=check_seed(seed),
    )  # fmt: skip
    clusters = model.fit_predict(features)
    result = labels.copy()
    for cluster in range(num_clusters):
        members = clusters == cluster
        known = labels[members & (labels >= 0)]
        if len(known):
            result[members & (labels < 0)] = np.bincount(known).argmax()
    return result
