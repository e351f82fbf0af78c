"""A baseline's logits are the probabilities of scikit-learn's classifier."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.svm import LinearSVC

from research.data import arrays, subset
from research.errors import UserError
from research.models.baseline import baseline

X, Y = load_wine(return_X_y=True)
X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
PARTS = np.arange(0, 178, 2), np.arange(1, 178, 2)


def test_one_label():
    data = arrays(features=X, label=Y, weight=np.arange(178))
    model, (train, test) = baseline(LogisticRegression(), [subset(data, rows) for rows in PARTS])
    theirs = LogisticRegression().fit(X[PARTS[0]], Y[PARTS[0]]).predict_proba(X[PARTS[1]])
    logits, _ = model.apply(*model.init(jax.random.key(0)), test.columns["features"], key=None, train=True)
    np.testing.assert_allclose(jax.nn.softmax(logits), theirs, 1e-4, 1e-6)
    assert test.columns["weight"].tolist() == list(range(1, 178, 2)) and len(train) == 89
    with pytest.raises(UserError, match="class 2 is absent"):
        baseline(LogisticRegression(), [subset(data, np.flatnonzero(Y < 2)), data])


def test_several_labels():
    labels = np.stack([Y == 0, Y > 1], 1).astype(np.float32)
    data = arrays(x=X.reshape(178, 13, 1), labels=labels)
    classifier = MultiOutputClassifier(LogisticRegression())
    _, (_, test) = baseline(classifier, [subset(data, rows) for rows in PARTS], inputs="x", labels="labels")
    for i in range(2):
        theirs = LogisticRegression().fit(X[PARTS[0]], labels[PARTS[0], i]).predict_proba(X[PARTS[1]])[:, 1]
        np.testing.assert_allclose(jax.nn.sigmoid(test.columns["x"][:, i]), theirs, 1e-4, 1e-6)


def test_a_machine_of_two_classes_has_two_logits():
    data = arrays(features=X, label=(Y == 1).astype(np.int32))
    train, held = (subset(data, rows) for rows in PARTS)
    _, (_, test) = baseline(LinearSVC(random_state=0), [train, held])
    theirs = LinearSVC(random_state=0).fit(X[PARTS[0]], Y[PARTS[0]] == 1).decision_function(X[PARTS[1]])
    np.testing.assert_allclose(test.columns["features"][:, 1] - test.columns["features"][:, 0], theirs, 1e-5)
