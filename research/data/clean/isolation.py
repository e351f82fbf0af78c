"""Outliers among rows by an isolation forest (Liu, Ting & Zhou 2008). Equals scikit-learn's IsolationForest.

A row that few random splits separate from the others is an outlier. Each tree is kept as arrays.
"""

import numpy as np

from research.data.steps import Feature, Fitted, applied, chosen, matrix, namespace, step

CHUNK = 4096  # rows that are in every tree at once


@step
def flag(frame, share: float | None = None, *, columns=None, trees: int = 100, seed: int = 0) -> Fitted:
    """Add the 0/1 column `outlier`: whether the row is one.

    `share` is the fraction of training rows that count as outliers; with None, those with a score below -0.5 do.
    """
    features = {**frame.features, "outlier": Feature("flag")}
    return Fitted(flagged, *_forest(frame, share, columns, trees, seed), features=features)


@step
def drop(frame, share: float | None = None, *, columns=None, trees: int = 100, seed: int = 0) -> Fitted:
    """Drop training rows that are outliers, as in `flag`. New rows are never dropped, and stay as they are."""
    return Fitted(None, *_forest(frame, share, columns, trees, seed), training=inliers)


def _forest(frame, share, columns, trees, seed):
    from sklearn.ensemble import IsolationForest

    names = chosen(frame, columns, ("number",))
    forest = IsolationForest(n_estimators=trees, contamination="auto" if share is None else share, random_state=seed)
    forest.fit(matrix(frame, names, what="an isolation forest"))
    size = max(one.tree_.node_count for one in forest.estimators_)
    arrays = {name: np.zeros((trees, size)) for name in ("feature", "threshold", "left", "right", "length")}
    depth = 0
    for i, (one, used) in enumerate(zip(forest.estimators_, forest.estimators_features_, strict=True)):
        tree, count, nodes = one.tree_, one.tree_.node_count, np.arange(one.tree_.node_count)
        leaf = tree.children_left < 0
        arrays["feature"][i, :count] = np.where(leaf, 0, used[np.maximum(tree.feature, 0)])
        arrays["threshold"][i, :count] = np.where(leaf, np.inf, tree.threshold)
        arrays["left"][i, :count] = np.where(leaf, nodes, tree.children_left)
        arrays["right"][i, :count] = np.where(leaf, nodes, tree.children_right)
        steps = np.zeros(count)
        for node in nodes[~leaf]:  # parents come before their children
            steps[[tree.children_left[node], tree.children_right[node]]] = steps[node] + 1
        arrays["length"][i, :count] = steps + _path_length(tree.n_node_samples)
        depth = max(depth, int(steps.max()))
    arrays |= {"offset": np.float64(forest.offset_), "expected": _path_length(np.array([forest.max_samples_]))[0]}
    arrays = {n: x.astype(np.int32) if n in ("feature", "left", "right") else np.asarray(x) for n, x in arrays.items()}
    return {"names": names, "depth": depth}, arrays


def _path_length(rows):
    """Return the mean path length of an unsuccessful search in a binary tree of `rows` [m] rows (equation 1)."""
    many = np.maximum(rows, 3)
    return np.select(
        [rows <= 1, rows == 2], [0.0, 1.0], 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    )


def scores(xp, x, arrays, depth):
    """Return the score of each row of x [n, names]: -2 ** -(mean path length / expected path length), in -1 to 0."""
    x = x.astype(xp.float32)  # the splits of scikit-learn are between numbers in f32
    names = ("feature", "threshold", "left", "right", "length")
    feature, threshold, left, right, length = (xp.asarray(arrays[name]) for name in names)
    tree, parts = xp.arange(len(feature))[:, None], []
    for start in range(0, len(x), CHUNK):
        rows = x[start : start + CHUNK]
        node, row = xp.zeros((len(feature), len(rows)), int), xp.arange(len(rows))
        for _ in range(depth):
            down = rows[row, feature[tree, node]] <= threshold[tree, node]
            node = xp.where(down, left[tree, node], right[tree, node])
        parts.append(length[tree, node].mean(0))
    return -(2.0 ** -(xp.concatenate(parts) / arrays["expected"]))


@applied
def flagged(columns, arrays, *, names, depth):
    """Add the column `outlier`."""
    xp = namespace(columns)
    found = scores(xp, xp.stack([columns[name] for name in names], 1), arrays, depth) < arrays["offset"]
    return {**columns, "outlier": xp.where(found, 1.0, 0.0)}


@applied
def inliers(columns, arrays, *, names, depth):
    """Return the rows that are no outliers."""
    keep = scores(np, np.stack([columns[name] for name in names], 1), arrays, depth) >= arrays["offset"]
    return {name: values[keep] for name, values in columns.items()}
