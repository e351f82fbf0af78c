"""Charts: data are drawn at their closed-form place, ticks are those of Matplotlib, and the SVG is sound."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.ticker import MaxNLocator

from research.html import marks
from research.html.chart import Axis, Scale, chart, log_ticks, round_ticks, save, tick_texts, width_of

NAMESPACE = {"": "http://www.w3.org/2000/svg"}


def places(svg):
    """The places of the circles of `values`, by their text."""
    found = re.findall(r'<circle cx="([^"]+)" cy="([^"]+)" r="5"><title>(.*?)</title>', svg)
    return {words: (float(x), float(y)) for x, y, words in found}


@pytest.mark.parametrize("log", [False, True])
def test_points_lie_where_their_values_are_between_the_limits(log):
    x, y = Axis(limits=(0, 10)), Axis(limits=(0.1, 10.0), log=log)
    points = [(0, 0.1, "low"), (5, 1.0, "middle"), (10, 10.0, "high"), (5, 11.0, "off the axis"), (11, 1.0, "late")]
    svg = chart([marks.values(points)], label="x", x=x, y=y, inner=200, height=100)
    middle = 50.0 if log else 100 * (1 - 0.9 / 9.9)
    assert places(svg) == {
        "low": (0.0, 100.0), "middle": (100.0, pytest.approx(middle, abs=0.05)), "high": (200.0, 0.0)
    }  # fmt: skip


def test_a_line_passes_through_its_points_and_breaks_where_there_is_none():
    drawn = marks.line([0, 1, 2, 3, 4], [0, 1, math.nan, 1, math.inf], dots=True)
    svg = chart([drawn], label="x", x=Axis(limits=(0, 4)), y=Axis(limits=(0, 1)), inner=100, height=100)
    assert 'd="M0.0 100.0L25.0 0.0M75.0 0.0"' in svg and svg.count(marks.SHAPES["dot"]) == 3
    none = chart([marks.line([], [])], label="x")
    assert "<svg" in none and not re.search("[^a-z]nan", none.lower())
    zero = chart([marks.line([1, 2, 3], [1.0, 0.0, 10.0], dots=True)], label="x", y=Axis(log=True))
    assert zero.count(marks.SHAPES["dot"]) == 2  # 0 has no logarithm


def test_the_axis_shows_all_finite_data_with_a_margin():
    svg = chart([marks.values([(2, 4.0, "a")]), marks.line([2, 4], [4.0, 8.0])], label="x", inner=110, height=110)
    assert places(svg)["a"] == (5.0, 105.0)
    flat = chart([marks.values([(1, 3.0, "a")]), marks.line([1, 1], [3.0, 3.0])], label="x", inner=100, height=100)
    assert places(flat)["a"] == (50.0, 50.0)


def test_bands_bars_cells_rules_and_images_cover_their_area():
    axes = {"x": Axis(limits=(0, 2)), "y": Axis(limits=(0, 4)), "inner": 200, "height": 100, "label": "x"}
    band = chart([marks.band([0, 1, 2], [0, 1, math.nan], [4, 3, 2])], **axes)
    assert 'd="M0.0 100.0L100.0 75.0L100.0 25.0L0.0 0.0Z"' in band
    split = chart([marks.band([0, 0.5, 1, 2], [0, 1, math.nan, 1], [1, 2, 3, 2])], **axes)
    assert split.count("Z") == 1  # a single point after the gap has no area
    bars = chart([marks.bars([0, 1, 2], [1.0, math.nan], texts=["one", "none"])], **axes)
    assert '<rect x="0.0" y="75.0" width="99.0" height="25.0"' in bars and "<title>one</title>" in bars
    assert "M100.0 75.0V25.0" in chart([marks.intervals([1], [1], [3])], **axes)
    assert "M100.0 100.0V0.0" in chart([marks.rule(1)], **axes)
    area = {"x": Axis(limits=(-0.5, 1.5)), "y": Axis(limits=(-0.5, 1.5), down=True), "inner": 100, "height": 100}
    cells = marks.cells([[0, 0.25], [1, 0]], words=[["", "3"], ["9", ""]], titles=[["a", "b"], ["c", "d"]])
    svg = chart([cells], label="x", **area)
    found = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"[^>]*fill-opacity="([\d.]+)"><title>(\w)</title>', svg)
    assert found == [("0.5", "0.5", "0.000", "a"), ("50.5", "0.5", "0.250", "b"), ("0.5", "50.5", "1.000", "c"),
                     ("50.5", "50.5", "0.000", "d")]  # fmt: skip
    image = chart([marks.image("data:,x", x=(-0.5, 0.5), y=(-0.5, 1.5))], label="x", **area)
    assert '<image href="data:,x" x="0.0" y="0.0" width="50.0" height="100.0"' in image


def test_steps_have_the_value_of_their_right_end():
    x, y = marks.stepped([0, 1, 2], [5, 6, 7])
    assert x.tolist() == [0, 0, 1, 1, 2] and y.tolist() == [5, 6, 6, 7, 7]


@pytest.mark.parametrize(
    "low, high", [(0, 1), (-3.2, 7.9), (0.013, 0.0171), (120, 99_000), (-5e-7, 2e-7), (9.92, 10.13)]
)
@pytest.mark.parametrize("most", [3, 5, 9])
def test_ticks_are_those_of_matplotlib(low, high, most):
    theirs = MaxNLocator(nbins=most, steps=[1, 2, 5, 10]).tick_values(low, high)
    margin = 1e-9 * (high - low)
    theirs = theirs[(theirs >= low - margin) & (theirs <= high + margin)]
    np.testing.assert_allclose(round_ticks(low, high, most=most), theirs, atol=margin)


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.integers(2, 9), st.booleans())
def test_ticks_are_even_inside_and_not_too_many(low, span, most, whole):
    ticks = round_ticks(low, low + span, most=most, whole=whole)
    assert len(ticks) <= max(most + 1, 5) and all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in ticks)
    assert not whole or all(float(t).is_integer() for t in ticks)


def test_ticks_of_a_logarithmic_axis_and_their_texts():
    assert log_ticks(0.5, 2e4, most=5) == [1, 10, 100, 1000, 10000] and log_ticks(1e-9, 1, most=5) == pytest.approx(
        [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]
    )
    assert log_ticks(0.9, 30, most=5) == [1, 2, 5, 10, 20] and log_ticks(2.1, 2.9, most=5) == pytest.approx(
        [2.2, 2.4, 2.6, 2.8]
    )
    assert tick_texts([0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"] and tick_texts([0.98, 0.985]) == ["0.980", "0.985"]
    assert tick_texts([0, 20_000, 40_000]) == ["0", "20k", "40k"] and tick_texts([1.5e6, 2e7]) == ["2M", "20M"]
    assert tick_texts([1e-7]) == ["1e-7"] and tick_texts([]) == [] and tick_texts([3]) == ["3"]
    assert tick_texts([0, 2e-7, 4e-7]) == ["0", "2e-7", "4e-7"]


def test_long_labels_make_room_and_turn():
    names = [(i, f"a long name {i}") for i in range(4)]
    axes = {"x": Axis("predicted", limits=(-0.5, 3.5), ticks=names), "y": Axis("true", limits=(-0.5, 3.5), ticks=names)}
    svg = chart([], label="x", inner=160, height=160, **axes)
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
    assert width > 160 + width_of("a long name 0") and height > 160 + 0.7 * width_of("a long name 0")
    assert svg.count("rotate(-45") == 4 and "rotate(-90" in svg
    assert "rotate(-45" not in chart([], label="x", inner=800, height=160, **axes)


def test_the_legend_is_above_the_frame_in_as_many_lines_as_it_needs():
    heights = []
    for names in (["a"], ["a", "b", "c"], [f"a name of some length {i}" for i in range(6)]):
        drawn = [marks.line([0, 1], [0, 1], name=name, **marks.look(i)) for i, name in enumerate(names)]
        svg = chart(drawn, label="x", title="t")
        heights.append(float(re.search(r'viewBox="0 0 \S+ (\S+)"', svg)[1]))
        assert all(f">{name}</text>" in svg for name in names)
    assert heights[0] == heights[1] < heights[2]
    assert len({tuple(marks.look(i).values()) for i in range(24)}) == 24


def test_a_file_is_sound_xml_without_colours_of_a_page(tmp_path):
    evil = "<b>&\"'\x00"
    one = chart([marks.line([0, 1], [0, 1], name=evil), marks.label(0, 0, evil)], label=evil, title=evil, x=Axis(evil))
    assert "<b>" not in one and "\x00" not in one and " id=" not in one
    save([one, one, chart([], label="x")], tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    boxes = [(float(one.get("x")), float(one.get("y"))) for one in root.findall("svg", NAMESPACE)]
    height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', one)[1])
    assert boxes == [(0, 0), (440, 0), (0, height)] and float(root.get("width")) == 880
    assert "var(" not in text and "currentColor" not in text


def test_thinning_keeps_the_extremes_of_every_pixel():
    rng = np.random.default_rng(0)
    x, y = np.linspace(0, 100, 50_000), rng.normal(size=50_000)
    y[30_000] = math.nan
    a, b = marks.thinned(x, y)
    assert len(a) < 500 and np.isnan(b).sum() == 1 and (a[0], a[-1]) == (0, 100)
    for column in (0, 17, 60, 99):
        inside = (np.floor(x) == column) & np.isfinite(y)
        kept = b[(np.floor(a) == column) & np.isfinite(b)]
        assert (kept.min(), kept.max()) == (y[inside].min(), y[inside].max())
    assert marks.thinned(x[:9], y[:9])[0] is not None and len(marks.thinned(x[:9], y[:9])[0]) == 9


def test_colours_blend():
    assert marks.blend(("#000000", "#ffffff"), 0.5) == "#808080"
    assert [marks.blend(marks.COLOURS[:3], share) for share in (0, 0.5, 1)] == list(marks.COLOURS[:3])


def test_a_scale_is_linear_in_logarithms():
    scale = Scale(0.0, 2.0, 100.0, 300.0, True)
    assert scale([1, 10, 100]).tolist() == [100, 200, 300] and np.isnan(scale(-1.0))
