"""ROC, precision-recall and reliability curves, slices as bars, and the timeline."""

import re

import numpy as np
import pytest
from sklearn import metrics

from research.metrics.scores import ranking
from research.report import report
from research.report.ranked import precision_recall_curves, ranked, roc_curves, thinned, wilson
from research.report.slices import slice_tables
from research.report.timeline import happened, lives, timeline
from research.runs.reader import Evaluation
from tests.report.runs import bare, write_lines
from tests.report.test_page import Page, read


def scored(classes, n=600, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[label]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return {"label": label, "probabilities": p.round(2), "prediction": p.argmax(1)}


@pytest.mark.parametrize("classes", [2, 4])
def test_areas_are_scikit_learns_before_points_are_left_out(classes):
    rows = scored(classes)
    found = ranking()({"rows": rows})
    roc, curve = roc_curves(found["roc"]), precision_recall_curves(found["precision_recall"])
    assert list(roc) == ([1] if classes == 2 else [0, 1, 2, 3])
    for c in roc:
        true, score = rows["label"] == c, rows["probabilities"][:, c]
        assert roc[c].area == pytest.approx(metrics.roc_auc_score(true, score))
        assert curve[c].area == pytest.approx(metrics.average_precision_score(true, score))
        assert len(roc[c].x) <= 120 and len(curve[c].x) <= 120
        # What is drawn has the same area, to what the eye can tell.
        assert np.trapezoid(roc[c].y, roc[c].x) == pytest.approx(roc[c].area, abs=0.01)
        assert np.sum(np.diff(curve[c].x) * curve[c].y[1:]) == pytest.approx(curve[c].area, abs=0.02)


def test_thinning_keeps_the_ends_and_the_shape():
    x = np.sort(np.random.default_rng(0).random(5000))
    a, b = thinned(x, x**2)
    assert len(a) <= 120 and (a[0], a[-1], b[-1]) == (x[0], x[-1], x[-1] ** 2)
    assert abs(np.interp(x, a, b) - x**2).max() < 0.01
    assert thinned(x[:5], x[:5])[0] is not None and len(thinned(x[:5], x[:5])[0]) == 5


def test_wilson_is_scipys():
    from scipy.stats import binomtest

    low, high = wilson(np.array([3.0, 10.0]), np.array([10.0, 10.0]))
    exact = binomtest(3, 10).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((exact.low, exact.high)) and high[1] == pytest.approx(1)


def evaluation(rows, arrays=None, numbers=None):
    return Evaluation(1, numbers or {}, {}, arrays or {}, rows)


def test_plots_say_their_areas_name_the_worst_class_and_stay_small(tmp_path):
    rows = scored(4)
    bins = np.array([[10, 0.3, 0.2], [0, np.nan, np.nan], [30, 0.9, 1.0]])
    plots, remark = ranked(evaluation(rows, {"reliability": bins}), ["a", "b", "c", "<d>"])
    areas = [metrics.roc_auc_score(rows["label"] == c, rows["probabilities"][:, c]) for c in range(4)]
    area, worst = np.mean(areas), ["a", "b", "c", "&lt;d&gt;"][np.argmin(areas)]
    assert len(plots) == 3 and not remark
    assert (
        f"ROC curve; area {area:.4f}" in plots[0]
        and f"mean of 4: {area:.3f}" in plots[0]
        and f"worst, {worst}: {min(areas):.3f}" in plots[0]
    )
    assert max(map(len, plots)) < 60_000 and all(Page(plot).open == [] for plot in plots)


def test_a_class_without_examples_is_left_out_and_named():
    rows = scored(3)
    keep = rows["label"] != 2
    plots, remark = ranked(evaluation({k: v[keep] for k, v in rows.items()}), ["a", "b", "c"])
    assert remark == "Not drawn, because all examples or none are of the class: c." and "mean of 2" in plots[0]
    rows["probabilities"][3, 1] = np.nan
    plots, remark = ranked(evaluation(rows), ())
    assert plots == [] and remark.startswith("No ROC curve: the probabilities of 1 of 600 examples are not finite")
    assert ranked(evaluation({}), ()) == ([], "")


def slices(names, values, **numbers):
    arrays = {"slices/size": np.array(names), "slices/size/count": np.arange(len(names)) + 1.0}
    arrays |= {f"slices/size/{metric}": np.array(column) for metric, column in values.items()}
    rows = {"slice/size": np.repeat(np.arange(len(names)), np.arange(len(names)) + 1)}
    return evaluation(rows, arrays, numbers)


def test_slices_have_bars_and_the_worst_is_marked():
    found = slices(["small", "<large>"], {"accuracy": [0.9, 0.45], "loss": [1.0, 4.0]}, accuracy=0.6, loss=2.0)
    html = slice_tables(found)[0]
    page = Page(html)
    assert page.open == [] and "<large>" in page.text and "0.4500" in page.text
    assert re.findall(r"width:([\d.]+)%", html) == ["100.0", "25.0", "50.0", "100.0", "66.7", "50.0"]
    rows = [row for row in html.split("<tr>") if "measure" in row]
    assert [row.count("measure worst") for row in rows] == [0, 2, 0]  # the lower accuracy, the higher loss; not all
    watched = slices(["a", "b"], {"accuracy": [0.9, 0.45], "loss": [1.0, 4.0]}, **{"accuracy/worst_size": 0.45})
    assert "loss" not in slice_tables(watched)[0] and slice_tables(evaluation({})) == []


def test_empty_slices_and_very_many_of_them():
    html = slice_tables(slices(["a", "b"], {"accuracy": [np.nan, np.nan]}))[0]
    assert "width:0.0%" in html and "–" in html
    many = slices([f"s{i}" for i in range(100)], {"accuracy": np.linspace(1, 0, 100)})
    page = Page(slice_tables(many)[0])
    assert "Worst 60 of 100." in page.text and "s99" in page.text and "s10" not in page.text.split("all")[0]


LINES = [
    {"step": 0, "event": "started", "total": 30, "time": 0.0},
    {"step": 10, "event": "saved", "time": 1.0},
    {"step": 12, "seconds": 1.0},
    {"step": 10, "event": "noted", "text": "a <damaged> checkpoint", "time": 5.0},
    {"step": 10, "event": "started", "total": 30, "time": 5.0},
    {"step": 20, "event": "evaluated", "text": "test", "time": 6.0},
    {"step": 30, "event": "finished", "text": "", "time": 7.0},
]


def test_the_timeline_shows_lives_and_notices_stand_out(tmp_path):
    assert lives(LINES) == [(0, 12, "cut off"), (10, 30, "finished")]
    svg = timeline(LINES)
    assert "2 attempts, 1 checkpoints, 1 evaluations, 1 notices" in svg
    page = Page(happened(LINES))
    badges = [attrs["class"] for tag, attrs in page.tags if tag == "span"]
    assert badges == ["badge preempted", "badge preempted", "badge finished"]
    assert "notice" in page.text and "restarted" in page.text and "a <damaged> checkpoint" in page.text
    assert timeline([]) == timeline(LINES[:1]) == "" and happened([]) == ""


def test_the_page_has_them_all(tmp_path):
    folder = bare(tmp_path)
    write_lines(folder / "timing.jsonl", LINES)
    rows = scored(3)
    slices = {"array/slices/size": np.array(["small", "large"]), "array/slices/size/accuracy": np.array([0.5, 1.0])}
    arrays = {f"row/{name}": values for name, values in rows.items()} | slices
    np.savez(folder / "evaluations/test.npz", **arrays)
    page = read(report(folder))
    assert all(words in page.text for words in ("Ranking and calibration", "Slices", "small", "restarted"))
    names = {path.name for path in (folder / "report").iterdir()}
    assert "report.html" in names
