"""The section of a multi-label evaluation."""

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from research.report import report
from research.report.multi_label import is_multi_label, multi_label, per_label, together
from research.runs.reader import Evaluation, read_run
from tests.report.runs import bare, evaluation
from tests.report.test_page import read

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 4)).astype(np.float32)
LABELS = (LOGITS + RNG.normal(size=(50, 4)) > 0.5).astype(np.float32)
LABELS[:, 3], LOGITS[:, 3] = 0, -9  # a label that no example has, and that is never predicted
WEIGHT = RNG.random(50).astype(np.float32)
ROWS = {"labels": LABELS, "predictions": LOGITS > 0.2, "probabilities": 1 / (1 + np.exp(-LOGITS)), "logits": LOGITS,
        "weight": WEIGHT}  # fmt: skip
FOUND = Evaluation(20, {}, {}, {}, ROWS)


def test_metrics_of_each_label_are_those_of_scikit_learn():
    found = per_label(FOUND, [*"abcd"])
    three = precision_recall_fscore_support(LABELS, LOGITS > 0.2, average=None, zero_division=0, sample_weight=WEIGHT)
    for c, one in enumerate(found[:3]):
        np.testing.assert_allclose(one[2:5], [values[c] for values in three[:3]], rtol=1e-6)
        expected = average_precision_score(LABELS[:, c], LOGITS[:, c], sample_weight=WEIGHT)
        np.testing.assert_allclose(one.average_precision, expected, rtol=1e-6)
        assert one.count == LABELS[:, c].sum()
    assert found[3] == ("d", 0, None, None, None, None)


def test_labels_that_occur_together_are_counted():
    expected = [[sum(row[i] * row[j] for row in LABELS) for j in range(4)] for i in range(4)]
    np.testing.assert_array_equal(together(LABELS), expected)


def test_only_rows_of_several_labels_are_taken():
    assert is_multi_label(FOUND)
    for name in ("labels", "predictions", "logits"):
        assert not is_multi_label(FOUND._replace(rows={k: v for k, v in ROWS.items() if k != name}))
    assert not is_multi_label(FOUND._replace(rows={**ROWS, "labels": LABELS[:, 0]}))


def test_the_report_has_the_section(tmp_path):
    evaluation(bare(tmp_path / "run"), rows=ROWS)
    assert is_multi_label(read_run(tmp_path / "run").evaluations["test"])
    text = read(report(tmp_path / "run")).text
    assert "Per-label metrics" in text and "Labels that occur together" in text and "cannot be drawn" not in text
    html = "".join(multi_label(FOUND, ("one", "two", "three", "four"), label="test"))
    for kind in ("true", "predicted"):
        assert f"{kind} labels of test that occur together" in html
        count = together(LABELS if kind == "true" else ROWS["predictions"])[0, 2]
        assert f"{kind} label one, also has three: {count} (" in html
