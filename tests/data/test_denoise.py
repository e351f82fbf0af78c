"""Denoising: the projection is scikit-learn's; the autoencoder is ridge regression in its limit, and cleans digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from research.data import fit, subset, table
from research.data.features import denoise
from research.data.preparation import load_preparation
from research.errors import UserError
from tests.data.test_steps import HOLES, TEST, TRAIN, X, made


def test_pca_is_a_projection():
    theirs = PCA(2).fit(X[TRAIN])
    found, names = made(denoise.pca(2))
    np.testing.assert_allclose(found, theirs.inverse_transform(theirs.transform(X[TEST])), 1e-4, 1e-4)
    assert names == tuple(f"x{i}" for i in range(6))


def test_without_hidden_layers_it_is_ridge_regression():
    noise, z = 0.7, (X - X[TRAIN].mean(0)) / X[TRAIN].std(0)
    theirs = Ridge(TRAIN.sum() * noise**2).fit(z[TRAIN], z[TRAIN]).predict(z[TEST])
    found, _ = made(denoise.autoencoder((), noise=noise, steps=3000, learning_rate=0.02))
    np.testing.assert_allclose((found - X[TRAIN].mean(0)) / X[TRAIN].std(0), theirs, atol=0.06)
    assert np.abs(theirs - z[TEST]).max() > 1


def test_it_removes_noise_from_real_digits_and_is_saved_as_numbers(tmp_path):
    clean = load_digits().data
    clean = clean[:, clean.std(0) > 1]
    noisy = clean + np.random.default_rng(0).normal(size=clean.shape) * 4
    whole = table({f"p{i}": x for i, x in enumerate(noisy.T)})
    train, test = (subset(whole, np.arange(*ends)) for ends in ((0, 1200), (1200, 1797)))
    prepare = fit(train, denoise.autoencoder(64, noise=0.8, steps=1500))
    error = lambda x: np.mean((x - clean[1200:]) ** 2)
    found = prepare(test).columns["features"]
    linear = fit(train, denoise.pca(15))(test).columns["features"]
    assert error(found) < 0.95 * error(linear) < 0.65 * error(noisy[1200:])
    again = fit(train, denoise.autoencoder(64, noise=0.8, steps=1500))(test).columns["features"]
    np.testing.assert_array_equal(found, again)
    prepare.save(tmp_path)
    np.testing.assert_array_equal(load_preparation(tmp_path)(test).columns["features"], found)


@pytest.mark.parametrize("make, words", [
    (lambda: made(denoise.pca(7)), "count=7.*expected 1 to 6"),
    (lambda: made(denoise.autoencoder(), data=HOLES), r"denoise.autoencoder\(\) needs complete columns"),
    (lambda: made(denoise.autoencoder(0)), r"hidden=\(0,\).*positive sizes"),
    (lambda: made(denoise.autoencoder(noise=-1)), "noise=-1.*at least 0"),
])  # fmt: skip
def test_errors(make, words):
    with pytest.raises(UserError, match=words):
        make()
