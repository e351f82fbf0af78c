"""The parts of a report: curves, confusions, the worst errors, and the timeline."""

import re

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from research.diagnose.findings_page import with_code
from research.html import marks
from research.html.chart import Axis, chart
from research.report.confusion import most_confused, per_class
from research.report.curves import curves, points_of, value_axis
from research.report.gallery import pixels, worst
from research.report.pace import happenings, pace
from research.report.timeline import happened
from tests.report.runs import ROWS


def test_curves_put_all_sets_of_a_metric_together_and_keep_gaps():
    lines = [
        {"step": 5, "test/loss": 3.0, "test/f1": 0.1},
        {"step": 10, "train/loss": 1.0, "train/learning_rate": 0.1, "train/accuracy": 0.5, "train/nothing": None},
        {"step": 20, "train/loss": None, "train/learning_rate": 0.2, "train/accuracy": 0.6, "valid/a/b": 1.0},
    ]
    found = curves(lines)
    assert list(found) == ["loss", "accuracy", "a/b", "f1", "learning_rate"]
    assert list(found["loss"]) == ["train", "test"]
    assert found["loss"]["train"].steps == [10, 20]
    np.testing.assert_equal(found["loss"]["train"].values, [1.0, np.nan])


def test_late_differences_are_visible():
    steps = np.arange(1, 101)
    settled = 0.9 + 0.001 * (steps % 7)
    for values, low, high in (
        (np.where(steps <= 10, 0.1, settled), 0.9 - 0.0003, 0.906 + 0.0003),  # the first tenth is off the axis
        (np.where(steps <= 11, 0.1, settled), 0, 0.1),  # a slow start is not
        (np.full(100, 0.5), 0, 0.5),
    ):
        limits = value_axis("accuracy", steps, values).limits
        assert limits == (pytest.approx((low, high)) if low else None)
    assert value_axis("loss", steps, np.where(steps <= 10, 40.0, 1.0)).log


def test_values_lie_under_the_pointer_where_their_markers_are_drawn():
    points = points_of("valid", [1, 2, 5], [0.3, 0.7, 0.4])
    y = Axis(limits=(0.35, 0.8))  # the first point is off the axis
    svg = chart([marks.line([1, 2, 5], [0.3, 0.7, 0.4], dots=True), marks.values(points)], label="x", y=y)
    markers = re.findall(r"M(\S+) (\S+?)m-2 0a", svg)
    circles = re.findall(r'<circle cx="([^"]+)" cy="([^"]+)".*?<title>(.*?)</title>', svg)
    assert [words for *_, words in circles] == ["valid, step 5: 0.4000", "valid, step 2: 0.7000"]
    assert len(markers) == 3 and {(x, y) for x, y, _ in circles} <= set(markers) and svg.endswith("</svg>")


def test_the_worst_errors_are_the_wrong_ones_with_the_highest_loss_in_order():
    assert [item.index for item in worst(ROWS)] == [3, 4, 1]  # record 2 has the highest loss, but is right
    first = worst(ROWS, limit=1)
    assert [(item.label, item.prediction, item.loss) for item in first] == [(0, 1, 3.25)]


def test_the_worst_errors_at_random():
    rng = np.random.default_rng(0)
    rows = {"label": rng.integers(0, 3, 500), "prediction": rng.integers(0, 3, 500), "loss": rng.random(500)}
    wrong = [i for i in range(500) if rows["label"][i] != rows["prediction"][i]]
    expected = sorted(wrong, key=lambda i: -rows["loss"][i])[:24]
    assert [item.index for item in worst(rows)] == expected


def test_without_losses_the_most_confident_come_first_and_a_loss_that_is_no_number_is_the_worst():
    assert [item.index for item in worst({k: v for k, v in ROWS.items() if k != "loss"})] == [3, 4, 1]
    assert [item.index for item in worst({k: ROWS[k] for k in ("label", "prediction")})] == [1, 3, 4]
    assert worst(ROWS | {"loss": np.array([0, np.nan, 0, 1, 2, 0])})[0].index == 1


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 2), (4, 5, 3), (4, 5, 4), (4, 5, 7)])
@pytest.mark.parametrize("scale", [np.uint8(16), np.float32(1), np.float64(-3.5), np.int32(70000)])
def test_pixels_of_any_kind_become_bytes_on_one_scale(shape, scale):
    low, high = sorted((0 * scale, scale))
    images = [np.full(shape, low), np.full(shape, high), np.full(shape, (low + high) / 2)]
    made = pixels(images)
    assert {image.shape for image in made} == {(4, 5, 3) if shape[2:] in ((3,), (4,)) else (4, 5)}
    assert [int(image.max()) for image in made] in ([0, 255, 127], [0, 255, 128])
    assert all(image.dtype == np.uint8 for image in made)


def test_pixels_bear_what_is_no_number_and_what_is_all_the_same():
    assert pixels([np.array([[np.nan, 1.0], [np.inf, 2.0]])])[0].tolist() == [[0, 0], [255, 255]]
    assert pixels([np.full((2, 2), 7)])[0].tolist() == [[0, 0], [0, 0]]


def test_per_class_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    matrix = np.zeros((4, 4))
    np.add.at(matrix, (label, prediction), 1)
    table = per_class(matrix, list("abcd"))
    expected = np.stack(precision_recall_fscore_support(label, prediction), 1)
    np.testing.assert_allclose([[row.precision, row.recall, row.f1, row.count] for row in table], expected)


def test_a_class_that_never_occurs_has_no_rates():
    row = per_class(np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]]), list("abc"))[2]
    assert (row.count, row.precision, row.recall, row.f1) == (0, None, None, None)


def test_the_most_confused_pairs_come_first_and_right_ones_never():
    pairs = most_confused(np.array([[90, 3, 7], [0, 50, 3], [0, 0, 10]]), list("abc"))
    assert [(p.true, p.predicted, p.count) for p in pairs] == [("a", "c", 7), ("a", "b", 3), ("b", "c", 3)]
    assert pairs[0].share == 0.07


TIMING = [
    {"step": 0, "event": "started", "total": 30, "time": 100.0},
    {"step": 5, "seconds": 10.0, "steps_per_second": 0.5, "data_wait": 0.9},
    {"step": 10, "seconds": 1.0, "steps_per_second": 5.0, "data_wait": 0.2},
    {"step": 10, "event": "evaluated", "text": "valid", "seconds": 2.0, "time": 112.0},
    {"step": 10, "event": "saved", "time": 112.5},
    {"step": 20, "seconds": 3.0, "steps_per_second": 3.0, "data_wait": 0.4},
    {"step": 20, "event": "saved", "time": 116.0},
    {"step": 20, "event": "started", "total": 30, "time": 200.0},
    {"step": 25, "seconds": 10.0, "steps_per_second": 0.5, "data_wait": 0.0},
    {"step": 25, "event": "preempted", "text": "asked to", "time": 210.0},
    {"step": 25, "event": "started", "total": 30, "time": 300.0},
]


def test_the_rate_leaves_out_the_intervals_that_compile():
    found = pace(TIMING)
    assert (found.training, found.evaluating, found.lives) == (24.0, 2.0, 3)
    assert found.steps_per_second == pytest.approx((5 + 9) / 4)
    assert found.data_wait == pytest.approx((0.2 * 1 + 0.4 * 3) / 4)
    assert pace([]).steps_per_second is None


def test_the_timeline_tells_routine_together_and_names_a_life_that_was_cut_off():
    rows = happenings(TIMING)
    assert [(row.seconds, row.event, row.text) for row in rows] == [
        (0.0, "started", "of 30 steps"),
        (12.0, "valid evaluated", "at step 10"),
        (16.0, "checkpoint saved", "2 times, steps 10 to 20"),
        (100.0, "started", "of 30 steps (the previous attempt was cut off)"),
        (110.0, "preempted", "asked to"),
        (200.0, "started", "of 30 steps"),
    ]


@pytest.mark.parametrize("remedy, html", [
    ("look for NaN: the checks name the fields", "look for NaN: the checks name the fields"),
    ("run `python -m research doctor FILE` first", "run <code>python -m research doctor FILE</code> first"),
    ("model = f(model)  # of the training set", "<code>model = f(model)  # of the training set</code>"),
    ("python -m research prepare DATA", "<code>python -m research prepare DATA</code>"),
    ("normalise the inputs: preprocessed(model, f)", "normalise the inputs: <code>preprocessed(model, f)</code>"),
    ('techniques=(early_stop("a<b"),)', "<code>techniques=(early_stop(&quot;a&lt;b&quot;),)</code>"),
    ("triple weight_decay and dropout", "triple weight_decay and dropout"),
])  # fmt: skip
def test_only_code_is_set_as_code(remedy, html):
    assert with_code(remedy) == html


def test_a_notice_has_a_line_for_each_remedy():
    text = "problem: stalled: x\n    try: lower it\n    try: a = f(b)"
    lines = [{"step": 0, "event": "started", "time": 0.0}, {"step": 7, "event": "noted", "text": text, "time": 1.0}]
    wanted = "<b>problem: stalled: x</b><div>try: lower it</div><div>try: <code>a = f(b)</code></div>"
    assert wanted in happened(lines)
