"""Comparisons of networks that were really trained: what is called, what is not, and what is refused."""

import itertools
import json
import shutil

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from research.__main__ import main
from research.data.fingerprint import FIRST_BATCH
from research.errors import UserError
from research.metrics.difference import over_seeds
from research.report.compare import compare, no_regression
from research.report.compare_page import format_comparison, verdict, write
from research.report.direction import better, main_metric, named
from research.report.groups import grouped
from research.report.rows import auc_scores, scores
from research.runs.reader import Evaluation, read_run
from tests.report.test_page import read
from tests.report.trained import changed, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """good: six seeds of a recipe; same: three others of it with a knob that changes nothing; bad: a rate too low."""
    root = tmp_path_factory.mktemp("runs")
    everyone = train(root, seeds=range(9), epochs=4)
    same = [changed(folder, knobs={"learning_rate": 4e-3, "shuffle": 1}) for folder in everyone[6:]]
    return {"good": everyone[:6], "same": same, "bad": train(root, learning_rate=3e-4, seeds=range(3), epochs=4)}


@pytest.fixture
def copy(trained, tmp_path):
    """A function that copies a run, to be spoiled."""

    def made(folder, name="copy"):
        return shutil.copytree(folder, tmp_path / name)

    return made  # fmt: skip


def accuracy(folder):
    return read_run(folder).evaluations["test"].numbers["accuracy"]


def test_runs_that_differ_by_seed_only_have_no_winner_and_are_not_tested(trained):
    for runs in (trained["good"][:2], trained["good"]):
        found = compare(runs)
        assert found.one_recipe and all(not line.shown and line.difference is None for line in found.metrics)
        (said,) = verdict(found)
        assert said.startswith("No winner: the runs differ by seed only.") and f"(n = {len(runs)})" in said
        assert " is better" not in format_comparison(found) and " is worse" not in format_comparison(found)
    values = [accuracy(folder) for folder in trained["good"]]
    assert f"{np.mean(values):.3f} ± {stats.sem(values):.2g} (n = 6)" in said


def test_recipes_that_differ_by_noise_have_no_winner(trained):
    """Every way to set three seeds against three others: a twentieth or so may seem to differ, and not by much."""
    others, called = [accuracy(folder) for folder in trained["same"]], []
    for chosen in itertools.combinations(trained["good"], 3):
        called.append(over_seeds([accuracy(folder) for folder in chosen], others).p < 0.05)
    assert np.mean(called) <= 0.1
    found = compare([*trained["good"], *trained["same"]])
    assert not found.one_recipe and [line.shown for line in found.headline] == [""]
    assert verdict(found)[0].startswith("No winner: the difference is not significant.")
    for one, other in zip(trained["good"], trained["same"], strict=False):
        assert verdict(compare([one, other]))[0].startswith("No winner")


def test_a_worse_recipe_is_called_by_its_seeds(trained):
    good, bad = trained["good"][:3], trained["bad"]
    found = compare([*good, *bad])
    line, values = found.headline[0], [[accuracy(folder) for folder in group] for group in (good, bad)]
    exact = stats.ttest_ind(values[1], values[0], equal_var=False)
    assert (found.metric, line.shown, line.p) == ("test/accuracy", "lower", pytest.approx(exact.pvalue))
    assert verdict(found)[0].startswith("digits-0.0003-0 is worse. test/accuracy: digits-0.004-0 ")
    assert verdict(compare([*bad, *good]))[0].startswith("digits-0.004-0 is better.")
    loss = next(line for line in found.metrics if line.what == "test/loss")
    assert loss.shown == "higher" and loss.p > loss.difference.p  # corrected for the table
    assert {d.name for d in found.differs} == {"learning_rate"}


def test_two_networks_are_tested_on_their_rows_and_nothing_is_said_of_recipes(trained):
    one, other = trained["good"][0], trained["bad"][0]
    found = compare([one, other])
    rows = [read_run(folder).evaluations["test"].rows for folder in (one, other)]
    hit = [r["label"] == r["prediction"] for r in rows]
    lost, gained = (hit[0] & ~hit[1]).sum(), (hit[1] & ~hit[0]).sum()
    assert found.headline[0].difference.p == pytest.approx(stats.binomtest(gained, lost + gained).pvalue)
    assert verdict(found)[0].startswith("No winner between recipes: each has one seed. Of these two networks, digits-0")
    loss = next(line for line in found.metrics if line.what == "test/loss")
    assert loss.difference.value == pytest.approx(rows[1]["loss"].mean() - rows[0]["loss"].mean(), rel=1e-4)
    assert next(line.why for line in found.metrics if line.what == "test/ece").startswith("it is not a mean")
    third = next(line for line in found.slices if line.what == "accuracy, class 3")
    assert third.base == pytest.approx(hit[0][rows[0]["label"] == 3].mean())
    assert len(found.slices) == 10 and all(line.p >= line.difference.p for line in found.slices)


def test_a_single_seed_beside_several_and_three_recipes(trained):
    found = compare([*trained["good"], trained["bad"][0]])
    assert found.headline[0].shown == "lower" and "6 and 1 seeds" in found.headline[0].difference.test
    three = compare([trained["good"][0], trained["same"][0], trained["bad"][0]])
    assert [line.group for line in three.headline] == [trained[kind][0].name for kind in ("same", "bad")]
    head = next(line.split() for line in format_comparison(three).split("\n") if line.startswith("metric "))
    assert head[:4] == ["metric", "run", "A", "value"]
    assert [line.p for line in three.metrics[:2]] == [line.p for line in three.headline], "one p for one test"
    assert three.headline[1].p == pytest.approx(min(1, 2 * three.headline[1].difference.p))  # Holm: of two


def test_no_regression(trained):
    good, bad = trained["good"], trained["bad"]
    assert no_regression([good[0], bad[0]]).shown and not no_regression([bad[0], good[0]]).shown
    assert no_regression([*good[:3], *bad], metric="loss").shown
    assert not no_regression([*bad, *good[:3]], metric="loss").shown
    lost = accuracy(good[0]) - accuracy(bad[0])
    assert no_regression([good[0], bad[0]], margin=lost / 3).shown
    assert not no_regression([good[0], bad[0]], margin=lost).shown
    # Networks of one recipe differ more than by chance of the examples: by their seed, and that is no regression.
    judged = [no_regression(list(pair)) for pair in itertools.permutations(good[:4], 2)]
    assert not any(one.shown for one in judged) and "the runs differ by seed only" in judged[0].text
    assert any(one.difference.high < 0 for one in judged)
    assert not no_regression([*good[:3], *trained["same"]]).shown


def test_the_exit_status(trained, capsys, tmp_path):
    good, bad = str(trained["good"][0]), str(trained["bad"][0])
    out = ["--out", str(tmp_path / "c.html")]
    assert main(["compare", good, bad, "--no-regression", *out]) == 1
    assert "regression: test/accuracy" in capsys.readouterr().out and (tmp_path / "c.html").exists()
    assert main(["compare", bad, good, "--no-regression", *out]) == 0
    assert main(["compare", good, str(tmp_path / "none"), "--no-regression"]) == 2
    assert main(["compare", good, bad, "--no-regression", "--margin", "-1"]) == 2


def test_the_page(trained):
    runs = [*trained["good"][:2], *trained["bad"]]
    found = compare(runs)
    path = write(found)
    assert path == trained["good"][0] / "report" / f"compare-{'-'.join(run.name for run in runs[1:])}.html"
    page, source = read(path), path.read_text()
    assert "digits-0.0003-0 is worse" in page.text and "learning_rate" in page.text and "accuracy, class 9" in page.text
    assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe"} == set()
    assert all(attrs["href"].startswith("#") for tag, attrs in page.tags if tag == "a")
    significant = sum(bool(line.shown) for line in found.slices)
    assert f"{len(found.slices) - significant} slices without a significant difference" in page.text
    drawn = [attrs["aria-label"] for _, attrs in page.tags if "aria-label" in attrs]
    assert (
        drawn == ["train loss over the step: digits-0.004-0, digits-0.0003-0"]
        and "http:" not in source
        and "default-src 'none'" in source
    )


def test_what_runs_say_stays_text(trained, copy):
    evil = "<script>alert(1)</script>"
    one = changed(copy(trained["good"][0]), experiment=evil, knobs={evil: evil})
    page = read(write(compare([one, trained["good"][1]])))
    assert "script" not in {tag for tag, _ in page.tags} and evil in page.text


def spoil(folder, **rows):
    path = folder / "evaluations" / "test.npz"
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files}
    np.savez(path, **{**arrays, **rows})
    return folder


def test_sets_that_do_not_pair_are_refused_unless_that_is_said(trained, copy):
    one, other = trained["good"][0], copy(trained["bad"][0])
    label = read_run(other).evaluations["test"].rows["label"]
    spoil(other, **{"row/label": np.roll(label, 1), "row/prediction": np.roll(label, 2)})
    for call in (compare, no_regression):
        with pytest.raises(UserError, match="rows of 'test' cannot be paired: 'label' differs .*--independent"):
            call([one, other])
    # Its rows now have another mean than its accuracy: they are not of it, and are not tested.
    assert compare([one, other], independent=True).headline[0].difference is None
    shorter = copy(trained["bad"][0], "short")
    rows = read_run(shorter).evaluations["test"].rows
    spoil(shorter, **{f"row/{name}": values[:-7] for name, values in rows.items()})
    with pytest.raises(UserError, match="497 and 490 rows"):
        compare([one, shorter])
    test = compare([one, trained["bad"][0]], independent=True).headline[0].difference.test
    assert test == "Welch's t-test, unpaired"


def test_what_cannot_be_compared_is_refused(trained, copy):
    good, bad = trained["good"], trained["bad"]
    with pytest.raises(UserError, match="two runs or more; got 1"):
        compare(good[:1])
    with pytest.raises(UserError, match="given twice"):
        compare([good[0], good[0]])
    with pytest.raises(UserError, match="Did you mean 'test/accuracy'"):
        compare([good[0], bad[0]], metric="test/acuracy")
    with pytest.raises(UserError, match="the same recipe with the same seed 0"):
        compare([good[0], copy(good[0], "again"), bad[0]])
    assert compare([good[0], copy(good[0], "twin")]).one_recipe
    with pytest.raises(UserError, match="two recipes with several seeds; got 3"):
        no_regression([good[0], trained["same"][0], bad[0]])
    running = copy(good[1], "running")
    status = json.loads((running / "status.json").read_text())
    (running / "status.json").write_text(json.dumps({**status, "status": "running"}))
    with pytest.raises(UserError, match="is running; expected a finished run"):
        no_regression([good[0], running])
    assert "is running at step" in compare([good[0], running]).remarks[0]
    with pytest.raises(UserError, match="test/ece cannot be tested"):
        no_regression([good[0], bad[0]], metric="ece")


def test_code_counts_as_a_difference_unless_it_is_said_not_to(trained, copy):
    other = changed(copy(trained["good"][1]), commit="def456")
    runs = [read_run(trained["good"][0]), read_run(other)]
    assert len(grouped(runs)) == 2 and len(grouped(runs, same_code=True)) == 1
    (other / "git.diff").write_text("diff --git a/README.md b/README.md\n+words\n")
    changed(other, commit="abc123")
    assert len(grouped([runs[0], read_run(other)])) == 1  # words are no code
    (other / "git.diff").write_text("diff --git a/research/core.py b/research/core.py\n+code\n")
    assert len(grouped([runs[0], read_run(other)])) == 2
    (other / "source" / "digits.py").write_text("def experiment(): ...\n")
    found = compare([trained["good"][0], other])
    assert [d.name for d in found.differs] == ["digits.py", "uncommitted changes"]
    assert "+def experiment(): ..." in read(write(found)).text


def test_groups_are_named_after_their_folders(trained, copy):
    good, bad = trained["good"], trained["bad"]
    name = lambda *folders: [group.name for group in grouped([read_run(folder) for folder in folders])]
    assert name(good[0], *bad) == ["digits-0.004-0-s0", "digits-0.0003-0"]
    twin = copy(bad[0], good[0].name)  # the same name in another folder
    assert name(good[0], twin) == [f"{folder.parent.name}/{folder.name}" for folder in (good[0], twin)]
    lines = format_comparison(compare([good[0], bad[0]])).split("\n")
    assert lines[:2] == [f"A  {good[0].name}: digits, seed 0: {good[0]}", f"B  {bad[0].name}: digits, seed 0: {bad[0]}"]
    assert next(line.split() for line in lines if line.startswith("metric "))[:4] == ["metric", "A", "B", "difference"]


def test_other_data_are_a_difference_and_the_first_batch_is_not(trained, copy):
    first, other = trained["good"][0], copy(trained["good"][1])
    one = {"records": 10, "read": 10, "fields": {"x": "a"}, "unordered": "b"}
    changed(first := copy(first, "first"), data={"train": one, FIRST_BATCH: one})
    changed(other, data={"train": one, FIRST_BATCH: {**one, "unordered": "c"}})
    assert len(grouped([read_run(first), read_run(other)])) == 1, "seeds draw other first batches"
    changed(other, data={"train": {**one, "records": 11, "fields": {"x": "d"}}, FIRST_BATCH: one})
    (differs,) = compare([first, other]).differs
    assert (differs.kind, differs.name) == ("data", "train")
    assert [value.split(",")[0] for value in differs.values] == ["10 records", "11 records"]


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_of_the_auc_have_it_as_their_mean_and_its_spread(classes):
    rng, areas, spreads = np.random.default_rng(0), [], []
    for _ in range(60):
        label = rng.choice(classes, 150, p=[0.8, 0.2] if classes == 2 else [0.7, 0.2, 0.1])
        p = np.round(rng.normal(size=(150, classes)) + np.eye(classes)[label], 1)
        p = np.exp(p) / np.exp(p).sum(1, keepdims=True)
        found = auc_scores(label, p)
        exact = roc_auc_score(label, p[:, 1] if classes == 2 else p, multi_class="ovr")
        assert found.mean() == pytest.approx(exact)
        areas.append(exact)
        spreads.append(found.std(ddof=1) / 150**0.5)
    assert np.mean(spreads) == pytest.approx(np.std(areas), rel=0.25)
    assert np.isnan(auc_scores(np.zeros(5, int), p[:5])).all()


def test_scores_are_only_those_that_have_the_number_as_their_mean():
    rows = {"label": np.array([0, 1, 1]), "prediction": np.array([0, 1, 0]), "loss": np.array([1.0, 2.0, 3.0])}
    rows |= {"error": np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]]), "step": np.array([1.0, 2.0, 3.0])}
    numbers = {"accuracy": 2 / 3, "loss": 2.5, "mse": 14 / 6, "mae": 1.0, "f1": 0.5}
    found = scores(Evaluation(1, numbers, {}, {}, rows))
    assert set(found) == {"accuracy", "mse", "mae"} and found["mse"].tolist() == [2.5, 0, 4.5]


def test_statistics_of_layers_are_not_compared(trained, copy):
    other = copy(trained["bad"][0])
    status = json.loads((other / "status.json").read_text())
    status["results"]["layers"] = {"gradient/conv": 1.0}
    (other / "status.json").write_text(json.dumps(status))
    assert {line.what.partition("/")[0] for line in compare([trained["good"][0], other]).metrics} == {"test"}


def test_which_metric_comes_first_and_which_way_is_better():
    names = ["valid/accuracy", "test/loss", "test/accuracy", "train/x"]
    assert main_metric((), names) == "test/accuracy" and main_metric((), names[:2]) == "test/loss"
    assert main_metric([{"metric": "test/loss"}], names) == "test/loss" and main_metric((), []) is None
    assert (better("test/accuracy"), better("test/loss"), better("x/bits_per_byte")) == ("higher", "lower", "lower")
    assert better("test/accuracy/worst_class") == "higher" and better("test/width") is None
    assert better("test/width", [{"metric": "test/width", "at_most": 3.0, "at_least": None}]) == "lower"
    with pytest.raises(UserError, match="in several sets: valid/accuracy, test/accuracy"):
        named("accuracy", dict.fromkeys(names))
