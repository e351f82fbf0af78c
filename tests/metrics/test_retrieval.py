"""Ranks as scikit-learn computes them, standard scores as scipy does, and the answers of a report."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import zscore
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from research.core import Trained
from research.metrics.retrieval import answer_ranks, answers_with_sources, measure_retrieval, standardized
from research.report.page import report
from research.report.texts import is_answers, worst_answers
from tests.report.runs import bare, write_json

RNG = np.random.default_rng(0)
SCORES, ANSWERS = RNG.normal(size=(40, 9)).round(1), RNG.integers(9, size=40)


def test_reciprocal_ranks_are_those_of_scikit_learn():
    expected = label_ranking_average_precision_score(np.eye(9)[ANSWERS], SCORES)  # of a single label; with ties
    assert float((1 / answer_ranks(SCORES, ANSWERS)).mean()) == pytest.approx(expected, rel=1e-6)
    assert answer_ranks(np.zeros((1, 9)), np.array([3])).tolist() == [9]


def test_standard_scores_are_those_of_scipy():
    np.testing.assert_allclose(standardized(jnp.asarray(SCORES)), zscore(SCORES, axis=1), atol=1e-5)
    np.testing.assert_array_equal(standardized(jnp.ones((2, 3))), 0)


def test_the_measure_adds_the_scores_and_skips_padding():
    table, texts = jnp.asarray(RNG.normal(size=(7, 4)), jnp.float32), {"text_ids": np.arange(7)[:, None]}
    texts["text_values"] = np.ones((7, 1), np.float32)
    apply = lambda params, stats, ids, values, train: (jnp.einsum("be,bef->bf", values, params[ids]), stats)
    trained = Trained(apply, table, {})
    given = RNG.normal(size=(5, 7)).astype(np.float32)
    batch = {"query_ids": np.array([[0], [1], [2], [3], [4]]), "query_values": np.ones((5, 1), np.float32)}
    batch |= {"scores": given, "answer": np.array([0, 1, 2, 5, 6]), "mask": np.array([1, 1, 1, 1, 0])}
    found = measure_retrieval(texts, weight=0.5)(trained, batch)
    unit = np.asarray(table) / np.linalg.norm(table, axis=1, keepdims=True)
    dense = unit[:5] @ unit.T
    both = zscore(given, axis=1) + 0.5 * zscore(dense, axis=1)
    for name, scores in (("", both), ("_given", given), ("_dense", dense)):
        expected = label_ranking_average_precision_score(np.eye(7)[batch["answer"][:4]], scores[:4])
        assert float(found[f"mrr{name}"].value()) == pytest.approx(expected, rel=1e-5), name
        top = top_k_accuracy_score(batch["answer"][:4], scores[:4], k=1, labels=range(7))
        assert float(found[f"recall_1{name}"].value()) == pytest.approx(top), name
    for gain, name in (("gain", "mrr"), ("gain_10", "recall_10")):
        difference = found[name].value() - found[f"{name}_given"].value()
        assert float(found[gain].value()) == pytest.approx(float(difference), abs=1e-6)
    assert float(found["recall_10"].value()) == 1 and found["mrr"].weight == 4
    np.testing.assert_array_equal(found["rows"].values["found"], both.argmax(1))


def test_the_worst_questions_are_shown_with_answers_and_sources(tmp_path):
    finish = answers_with_sources(["a?", "b?", "c?"], lambda asked, text: (f"<{asked}{text}>", f"file {text}"), most=2)
    found = finish({"rows": {"rank": np.array([1.0, 30, 2]), "found": np.array([4, 5, 6])}})["answers"]
    assert found.tolist() == [["b?", "<b?5>", "file 5", "30"], ["c?", "<c?6>", "file 6", "2"]]
    assert is_answers({"answers": found}) and not is_answers({"answers": found[0]}) and not is_answers({})
    assert "&lt;b?5&gt;" in worst_answers(found)[1]
    bare(tmp_path)
    write_json(tmp_path / "evaluations/test.json", {"step": 20, "numbers": {"mrr": 0.5}, "texts": {}})
    np.savez(tmp_path / "evaluations/test.npz", **{"array/answers": found})
    page = report(tmp_path).read_text()
    assert "Questions and answers" in page and "file 6" in page and "cannot be drawn" not in page
