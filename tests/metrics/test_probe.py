import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from research.core import State
from research.data import arrays
from research.distributed.sharding import make_mesh
from research.errors import UserError
from research.evaluate import evaluator
from research.metrics.probe import join_splits, probe, score

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 6)).astype(np.float32)


def records(count):
    label = RNG.integers(3, size=count)
    image = RNG.normal(size=(count, 4)).astype(np.float32) * [1, 5, 1, 1] + np.eye(4)[label] * 1.5
    return arrays(image=image.astype(np.float32), label=label, other=np.zeros(count))


TRAIN, TEST = records(70), records(43)
TEST.columns["image"][:, 0] *= 20  # what is standardised by the test rows too comes out otherwise


def network(params, stats, x, *, key=None, train=False):
    assert not train
    return (x @ params)[:, :, None], {}


def doubled(params, stats, x, *, key=None, train=False):
    return 2 * x, {}


def run(ev):
    state = State(None, None, None, W, {}, None)
    return evaluator(ev, network, mesh=make_mesh({"data": 1}, devices=jax.devices()[:1]))(state)


def expected(features, *, penalty, neighbors):
    (x, y), (u, v) = ((features(d.columns["image"]), d.columns["label"]) for d in (TRAIN, TEST))
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=5000)).fit(x, y)
    nearest = KNeighborsClassifier(neighbors, metric="cosine").fit(x, y)
    return {
        "probe_accuracy": linear.score(u, v),
        "probe_train_accuracy": linear.score(x, y),
        "knn_accuracy": nearest.score(u, v),
    }


def test_numbers_are_those_of_sklearn_on_the_same_features():
    found = run(probe(TRAIN, TEST, size=32, penalty=2.0, neighbors=5))
    assert found.numbers == expected(lambda x: x @ W, penalty=2.0, neighbors=5)
    assert 0.4 < found.numbers["probe_accuracy"] < 1 and len(found.rows["features"]) == 113
    given = run(probe(TRAIN, TEST, features=doubled, size=113, penalty=50.0, neighbors=3))
    assert given.numbers == expected(lambda x: 2 * x, penalty=50.0, neighbors=3)
    assert given.numbers["probe_accuracy"] != found.numbers["probe_accuracy"]


def test_records_of_both_sets_are_mixed_and_keep_their_labels():
    both = join_splits(TRAIN, TEST)
    assert set(both.columns) == {"image", "label", "split"} and len(both) == 113
    for part, data in enumerate((TRAIN, TEST)):
        rows = both.columns["split"] == part
        order = np.argsort(both.columns["image"][rows][:, 0])
        own = np.argsort(data.columns["image"][:, 0])
        np.testing.assert_array_equal(both.columns["image"][rows][order], data.columns["image"][own])
        np.testing.assert_array_equal(both.columns["label"][rows][order], data.columns["label"][own])
    assert set(both.columns["split"][:20]) == {0, 1}
    with pytest.raises(UserError, match="unknown batch field 'picture'"):
        join_splits(TRAIN, TEST, fields=("picture", "label"))


def test_a_constant_feature_is_harmless_and_a_missing_split_is_an_error():
    rows = {
        "features": np.array([[0, 1], [1, 1], [0.1, 1], [0.9, 1]]), "label": np.array([0, 1, 0, 1]),
        "split": np.array([0, 0, 1, 1]),
    }  # fmt: skip
    assert score(neighbors=1)({"rows": rows})["probe_accuracy"] == 1
    with pytest.raises(UserError, match="0 train and 4 test rows"):
        score()({"rows": {**rows, "split": np.ones(4)}})
    with pytest.raises(UserError, match="two classes; all 2 are of class 0"):
        score()({"rows": {**rows, "label": np.array([0, 0, 0, 1])}})
