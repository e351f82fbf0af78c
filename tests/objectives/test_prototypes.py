"""Prototypes against the nearest centroids, and kernels against the linear machines, of scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid
from sklearn.svm import SVC

from research.core import Ctx, Trained
from research.errors import UserError
from research.metrics.adaptation import linear_shots, measure_prototypes
from research.objectives.prototypes import prototype_logits, prototypical

RNG = np.random.default_rng(0)
TASKS, WAYS, SHOTS, QUERIES = 2, 3, 4, 5
LABELS = {"support_label": np.tile(np.repeat(np.arange(WAYS), SHOTS), (TASKS, 1)),
          "query_label": np.tile(np.repeat(np.arange(WAYS), QUERIES), (TASKS, 1))}  # fmt: skip
BATCH = {
    "support_image": RNG.normal(size=(TASKS, WAYS * SHOTS, 6)).astype(np.float32),
    "query_image": RNG.normal(size=(TASKS, WAYS * QUERIES, 6)).astype(np.float32),
    **LABELS,
}
W = RNG.normal(size=(6, 4)).astype(np.float32)


def encoder(params, stats, x, *, key=None, train=False):
    return x @ params, {"seen": len(x)}


def centroids(support, labels, query):
    return NearestCentroid().fit(support, labels).predict(query)


def test_the_nearest_prototype_is_the_nearest_centroid():
    support, query, labels = BATCH["support_image"][0], BATCH["query_image"][0], LABELS["support_label"][0]
    logits = jax.jit(lambda *x: prototype_logits(*x, ways=WAYS))(support, labels, query)
    np.testing.assert_array_equal(logits.argmax(-1), centroids(support, labels, query))
    means = np.stack([support[labels == k].mean(0) for k in range(WAYS)])
    np.testing.assert_allclose(logits, -((query[:, None] - means) ** 2).sum(-1), rtol=1e-5)


def test_the_loss_is_the_mean_over_tasks_of_the_queries_cross_entropy():
    mask = np.array([1, 0], np.float32)
    loss = prototypical(encoder, ways=WAYS)

    @jax.jit
    def found(w, mask):
        return loss(w, Ctx({**BATCH, "mask": mask}, {}, jax.random.key(0), jnp.int32(0)))

    def expected(task):
        support, query = BATCH["support_image"][task] @ W, BATCH["query_image"][task] @ W
        means = np.stack([support[LABELS["support_label"][task] == k].mean(0) for k in range(WAYS)])
        scores = np.exp(-((query[:, None] - means) ** 2).sum(-1))
        return -np.log(scores / scores.sum(-1, keepdims=True))[
            np.arange(len(query)), LABELS["query_label"][task]
        ].mean()

    value, out = found(W, mask)
    np.testing.assert_allclose(value, expected(0), rtol=1e-4)
    assert out.metrics["loss"].weight == 1 and out.stats == {"seen": TASKS * WAYS * (SHOTS + QUERIES)}
    np.testing.assert_allclose(found(W, np.ones(TASKS, np.float32))[0], np.mean([expected(0), expected(1)]), rtol=1e-4)
    with pytest.raises(UserError, match="the batch has no field support_"):
        loss(W, Ctx({"image": W}, {}, jax.random.key(0), jnp.int32(0)))


def test_the_measure_of_tasks_and_the_machines_on_the_same_shots():
    measure = measure_prototypes(ways=WAYS)
    found = jax.jit(lambda w: measure(Trained(encoder, w, {}), BATCH))(W)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    support, query = (unit(BATCH[f"{side}_image"] @ W) for side in ("support", "query"))
    tasks = list(zip(support, LABELS["support_label"], query, LABELS["query_label"], strict=True))
    hits = [np.mean(centroids(s, y, q) == truth) for s, y, q, truth in tasks]
    np.testing.assert_allclose(found["accuracy"].value(), np.mean(hits), rtol=1e-6)
    results = {"rows": {name: np.asarray(values) for name, values in found["rows"].values.items()}}
    machines = [SVC(C=0.5, kernel="linear").fit(s, y).score(q, truth) for s, y, q, truth in tasks]
    np.testing.assert_allclose(linear_shots(c=0.5)(results)["svm_accuracy"], np.mean(machines), rtol=1e-6)
