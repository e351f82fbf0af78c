"""Checks of splits: planted faults are named, and sound splits of real data pass."""

import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris

from research.data import (
    arrays,
    chronological,
    fit,
    grouped,
    shuffled,
    stratified,
    subset,
    table,
    tfds_source,
)
from research.data.balance.resample import oversample
from research.data.clean import missing
from research.data.features import encode, scale
from research.data.preparation import origin_of
from research.data.readers.arrays import Arrays, in_memory
from research.diagnose.outcome import Finding, Passed, Skipped
from research.diagnose.parts import read_parts, row_limit
from research.diagnose.splits import check_splits, of_experiment, split_outcomes
from research.diagnose.tables import Table
from research.errors import UserError
from tests.real import needs_data

N = 600


def people(seed=0, count=N):
    """A table of every kind of column; the target depends on two of them."""
    rng = np.random.default_rng(seed)
    age, pay = rng.integers(18, 80, count), rng.lognormal(3, 1, count)
    household = rng.integers(0, count // 3, count)
    columns = {
        "household_id": household, "age": age, "pay": np.where(rng.random(count) < 0.1, np.nan, pay),
        "city": rng.choice(["Rome", "Oslo", "Bonn", "Cork"], count), "score": rng.normal(size=count),
        "seen": np.datetime64("2020-01-01") + rng.integers(0, 900, count).astype("m8[D]"),
        "rich": np.where(pay + rng.normal(size=count) * 20 > 25, "yes", "no"),
    }  # fmt: skip
    return {name: values.astype(object) if values.dtype.kind == "U" else values for name, values in columns.items()}


def split(columns, parts):
    return {name: {n: x[rows] for n, x in columns.items()} for name, rows in zip(("train", "test"), parts, strict=True)}


def sound(seed=0, columns=None):
    columns = columns or people(seed)
    return split(columns, grouped(columns["household_id"], (0.7, None), seed=seed))


def rules(found):
    return [finding.rule for finding in found]


def test_a_sound_split_passes_every_check():
    parts = read_parts(sound(), target="rich")
    outcomes = split_outcomes(parts, group="household_id")
    assert [type(o) for o in outcomes.values()] == [Passed, Passed, Skipped, Passed, Passed, Passed, Passed], outcomes
    assert "time= does not name a column of times: seen" in outcomes["time order"].text
    kinds = {name: column.kind for name, column in parts.schema.items()}
    assert kinds == {
        "household_id": "integer", "age": "integer", "pay": "number", "city": "category", "score": "number",
        "seen": "date", "rich": "category",
    }  # fmt: skip


def plant(kind):
    """(parts, arguments, rule, whether it is a problem, words of the finding) of a fault."""
    rng, columns = np.random.default_rng(1), people()
    own = {"target": "rich", "group": "household_id"}
    if kind == "group":
        return (
            split(columns, shuffled(N, (0.7, None), seed=0)),
            own,
            "groups",
            True,
            "values of household_id are in train",
        )
    if kind == "group that is not named":
        parts = split(columns, shuffled(N, (0.7, None), seed=0))
        return parts, {"target": "rich"}, "groups", False, "household_id"
    parts = sound()
    train, test = parts.values()
    if kind == "time":
        return parts, own | {"time": "seen"}, "time order", True, "rows of train are later than the first row of test"
    if kind == "copies":
        for name, values in test.items():
            values[:8] = train[name][10:18]
            values[3] = train[name][13]
        return parts, {"target": "rich", "group": ()}, "duplicates", True, "8 of"
    if kind == "near copies":
        for name, values in test.items():
            values[:8] = train[name][10:18]
        test["score"][:8] += 1e-4
        return parts, {"target": "rich"}, "duplicates", True, "8 are near copies, such as row 0, a copy of row 10"
    if kind == "shift":
        test["age"] += 25
        return parts, own, "distributions", False, "age of test (KS"
    if kind == "categories":
        test["city"][rng.random(len(test["city"])) < 0.5] = "Rome"
        return parts, own, "distributions", False, "city of test (chi-squared"
    if kind == "missing":
        test["pay"][rng.random(len(test["pay"])) < 0.4] = np.nan
        return parts, own, "distributions", False, "pay of test"
    if kind == "all columns":
        test["score"] = np.sort(test["score"])[np.argsort(np.argsort(test["age"]))]
        return parts, own, "joint distribution", False, "classifier AUC"
    if kind == "label":
        for part in parts.values():
            part["taxed"] = np.where(part["rich"] == "yes", "high", "none").astype(object)
        return parts, own, "label among the features", True, "taxed (100.0 %"
    if kind == "standardised":
        columns["score"] = (columns["score"] - columns["score"].mean()) / columns["score"].std()
        return (
            sound(0, columns),
            own,
            "fitted before the split",
            True,
            "score has a mean of 0 and a standard deviation of 1 over train, test together",
        )
    if kind == "range":
        columns["score"] = (columns["score"] - columns["score"].min()) / np.ptp(columns["score"])
        # Both ends in different parts.
        both = np.argsort(columns["score"])[[0, -1]]
        columns["household_id"][both] = [10_001, 10_000]
        parts = split(columns, [np.setdiff1d(np.arange(N), both[:1])[:400], np.r_[both[:1], np.arange(400, N)]])
        return parts, own, "fitted before the split", False, "a minimum of 0 and a maximum of 1"
    raise ValueError(kind)


KINDS = (
    "group", "group that is not named", "time", "copies", "near copies", "shift", "categories", "missing",
    "all columns", "label", "standardised", "range",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_planted_faults_are_named(kind):
    parts, arguments, rule, problem, words = plant(kind)
    found = check_splits(parts, **arguments)
    named = [finding for finding in found if finding.rule == rule]
    assert named and named[0].problem == problem and words in named[0].text, found
    assert named[0].remedies and all(f.problem >= g.problem for f, g in zip(found, found[1:], strict=False))


def test_the_same_faults_are_found_in_frames_and_data_sets():
    parts, arguments, rule, _, words = plant("copies")
    frames = {name: pandas.DataFrame(part) for name, part in parts.items()}
    (by_frame,) = [f for f in check_splits(frames, **arguments) if f.rule == rule]
    sets = {name: arrays(**part) for name, part in parts.items()}
    (by_set,) = [f for f in check_splits(sets, **arguments) if f.rule == rule]
    assert by_frame == by_set and words in by_frame.text
    assert by_frame.evidence["test in train"][:2] == [[0, 10], [1, 11]]


def images(parts=((900,), (300,))):
    digits = load_digits()
    rows = stratified(digits.target, (900, 300, None), seed=0)
    made = [{"image": digits.images[r, ..., None].astype(np.uint8), "label": digits.target[r]} for r in rows[:2]]
    return dict(zip(("train", "test"), made, strict=True))


def test_images_and_texts():
    assert check_splits(images()) == []
    parts = images()
    parts["test"]["image"][:5] = parts["train"]["image"][20:25] + 1
    (found,) = check_splits(parts)
    assert found.rule == "duplicates" and "5 are near copies, such as row 0, a copy of row 20" in found.text
    darker = images()
    darker["test"]["image"] = darker["test"]["image"] // 2
    assert rules(check_splits(darker)) == ["joint distribution"]
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(400)])
    texts = [" ".join(rng.choice(words, 20)) for _ in range(300)]
    made = {"train": {"text": texts[:200]}, "test": {"text": [*texts[200:], texts[7].upper(), texts[9] + " word3"]}}
    (found,) = check_splits(made)
    assert found.rule == "duplicates" and found.problem
    assert found.evidence["test in train"] == [[100, 7], [101, 9]]


def test_a_preparation_that_was_fitted_on_test_rows():
    data = table(people(), target="rich")
    steps = missing.median(), scale.standard(), encode.one_hot()
    parts = grouped(data.column("household_id"), (0.7, None), seed=0)
    everything = fit(data, *steps, without=("seen", "household_id"))
    of_all = everything(data, training=False)
    found = check_splits({"train": subset(of_all, parts[0]), "test": subset(of_all, parts[1])}, group="household_id")
    assert rules(found) == ["fitted before the split"] and found[0].problem
    assert f"fitted on {len(parts[1])} of its {len(parts[1])} rows" in found[0].text
    train, test = (subset(data, rows) for rows in parts)
    prepare = fit(train, *steps, without=("seen", "household_id"))
    origin = origin_of(subset(prepare(test), [2, 0]))
    assert origin.table is data and origin.rows.tolist() == parts[1][[2, 0]].tolist()
    outcomes = split_outcomes(read_parts({"train": prepare(train), "test": prepare(test)}))
    assert isinstance(outcomes["fitted before the split"], Passed)
    assert origin_of(arrays(x=np.zeros(3))) is None


def test_copies_for_balance_before_the_split():
    """Over-sampling before the split: the trap of Vandewiele et al. 2021 (predictions of preterm birth)."""
    columns = people()
    label = (columns["rich"] == "yes").astype(int) * (np.arange(N) % 4 == 0)
    columns["rich"] = np.where(label, "yes", "no").astype(object)
    rows = oversample(label, seed=0)
    balanced = {name: values[rows] for name, values in columns.items() if name != "household_id"}
    parts = split(balanced, stratified(label[rows], (0.7, None), seed=0))
    found = [f for f in check_splits(parts, target="rich") if f.rule == "duplicates"]
    assert found and found[0].problem and "research.data.balance" in found[0].remedies[-1]


def test_scaled_columns_of_several_parts():
    """The columns of scikit-learn's diabetes data are scaled over all patients, whatever the split."""
    found = load_diabetes()
    parts = shuffled(len(found.target), (None, 60, 140), seed=0)
    taken = {
        name: {"features": found.data[rows], "target": found.target[rows]}
        for name, rows in zip("abc", parts, strict=True)
    }
    finding = check_splits(taken)[0]
    assert finding.rule == "fitted before the split" and finding.problem
    assert (
        "features[0], features[2], features[3]" in finding.text and "a sum of squares of 1 over a, b, c" in finding.text
    )
    scaled = lambda rows, by: (found.data[rows] - found.data[by].mean(0)) / found.data[by].std(0)
    for by, words in [((0, 0, 0), None), ((0, 1, 2), "over c alone"), ((0, 0, 2), "over c alone")]:
        own = {name: {"x": scaled(parts[i], parts[by[i]])} for i, name in enumerate("abc")}
        (outcome,) = [o for rule, o in split_outcomes(read_parts(own)).items() if rule == "fitted before the split"]
        assert words in outcome.text if words else isinstance(outcome, Passed), outcome
    both = np.concatenate(parts[:2])
    own = {name: {"x": scaled(rows, both)} for name, rows in zip("abc", parts, strict=True)}
    assert "over a, b together, but in none of them alone" in check_splits(own)[0].text
    # A fraction may well have both ends in each part.
    rng = np.random.default_rng(0)
    natural = [np.r_[0, 1, rng.random(100)] for _ in range(3)]
    assert check_splits({name: {"x": x} for name, x in zip("abc", natural, strict=True)}) == []


def test_identifiers_of_two_parts():
    rng = np.random.default_rng(0)
    numbers = 7 * rng.permutation(300)
    own = {"train": {"user_id": numbers[:200]}, "test": {"user_id": numbers[150:250]}}
    (found,) = check_splits(own)
    assert found.rule == "groups" and not found.problem and "50 values of user_id are in train and test" in found.text
    counted = {name: {"row_id": rng.permutation(count)} for name, count in (("train", 200), ("test", 100))}
    assert check_splits(counted) == []


def test_wide_tables_use_fewer_rows():
    assert row_limit(20_000, 15) == 20_000 and row_limit(20_000, 1_000) == 10_000 and row_limit(20_000, 10**6) == 500


def test_time_and_groups_of_sound_splits():
    columns = people()
    parts = split(columns, chronological(columns["seen"], (0.7, None)))
    outcomes = split_outcomes(read_parts(parts, target="rich"), time="seen")
    assert "no row of train is later than a row of test" in outcomes["time order"].text
    assert isinstance(outcomes["distributions"], Passed), "the times are not compared"
    guessed = split_outcomes(read_parts(sound(), target="rich"), guess=True)["time order"]
    assert isinstance(guessed, Finding) and not guessed.problem
    # One row of each household is compared: equal rows in a household would be significant.
    repeated = {name: np.repeat(values, 40) for name, values in people(3, 60).items()}
    repeated["household_id"] = np.repeat(np.arange(60), 40)
    parts = split(repeated, grouped(repeated["household_id"], (0.7, None), seed=0))
    assert "distributions" in rules(check_splits(parts, target="rich"))
    assert "distributions" not in rules(check_splits(parts, target="rich", group="household_id"))


@pytest.mark.parametrize("parts, arguments, words", [
    ([1, 2], {}, "the parts are list; expected at least two by name"),
    ({"train": {"x": [1]}}, {}, "the parts are 1 of them"),
    ({"train": {"pay": [1.0, 2]}, "test": {"pai": [1.0]}}, {}, "lacks the column 'pay' of 'train'. Did you mean 'pai'"),
    ({"train": {"x": [1.0]}, "test": {"x": [1.0]}}, {"target": "y"}, "unknown target column 'y'"),
    ({"train": {"x": [1.0]}, "test": {"x": [1.0]}}, {"group": "xx"}, "unknown column group= 'xx'. Did you mean 'x'"),
    ({"train": {"x": [1.0]}, "test": {"x": [1.0]}}, {"time": "t"}, "unknown column time= 't'"),
    ({"train": {"x": ["a"]}, "test": {"x": ["b"]}}, {"time": "x"}, "a column of kind category; expected a date"),
    ({"train": {"x": [1.0]}, "test": {"x": np.zeros(0)}}, {}, "the part 'test' is empty"),
])  # fmt: skip
def test_mistakes_are_errors(parts, arguments, words):
    with pytest.raises(UserError) as error:
        check_splits(parts, **arguments)
    assert words in str(error.value)


@pytest.mark.parametrize("column", [[1.0, 2.0, 3.0], ["a", "b", "a"], [None, None, 1.5], [np.inf, 1.0, 2.0], [5, 5, 5]])
def test_tiny_and_odd_parts_are_no_errors(column):
    assert check_splits({"train": {"x": column}, "test": {"x": column[:1] if column[0] is None else [9.5]}}) is not None
    assert rules(check_splits({"train": {"x": [1.0, 2.0]}, "test": {"y": [1.0], "x": [3.0]}}, target="x")) == []


def experiment(train, test, **more):
    source = SimpleNamespace(data=train)
    evals = {"test": SimpleNamespace(source=SimpleNamespace(data=test))}
    made = SimpleNamespace(source=source, evals=evals, preparation=None, **more)
    question = SimpleNamespace(inputs=("features",), target="label")
    return SimpleNamespace(experiment=made, question=question, silent="")


def field_tables(train, test):
    return [Table(name, name == "train", data, np.arange(len(data["label"])), len(data["label"]), False)
            for name, data in (("train", train), ("test", test))]  # fmt: skip


def test_an_experiment_is_checked_by_raw_rows_or_by_fields():
    data = table(people(), target="rich")
    train, test = (subset(data, rows) for rows in shuffled(N, (0.7, None), seed=0))
    prepare = fit(train, missing.median(), scale.standard(), encode.one_hot(), without=("seen",))
    outcomes = of_experiment(experiment(prepare(train), prepare(test)), [])
    assert isinstance(outcomes["groups"], Finding) and "household_id" in outcomes["groups"].text
    assert isinstance(outcomes["duplicates"], Passed) and isinstance(outcomes["label among the features"], Passed)
    found = load_breast_cancer()
    rows = stratified(found.target, (0.7, None), seed=0)
    x = (found.data - found.data.mean(0)) / found.data.std(0)
    parts = [{"features": x[r].astype(np.float32), "label": found.target[r]} for r in rows]
    outcomes = of_experiment(experiment(Arrays(parts[0]), Arrays(parts[1])), field_tables(*parts))
    assert list(outcomes) == ["distributions", "joint distribution", "fitted before the split"]
    assert outcomes["fitted before the split"].problem and isinstance(outcomes["distributions"], Passed)
    assert isinstance(of_experiment(experiment(None, None), [])["distributions"], Skipped)
    other = dataclasses.replace(
        data, columns={"age": data.columns["age"]}, schema={"age": data.schema["age"]}, target=None
    )
    assert "lacks the column" in of_experiment(experiment(train, other), [])["distributions"].text


def clean(name):
    load = {"iris": load_iris, "digits": load_digits, "breast cancer": load_breast_cancer}[name]
    found = load()
    return {"features": found.data.astype(np.float32), "label": found.target}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sound_split_of_iris_gives_no_alarm(seed):
    columns = clean("iris")
    assert check_splits(split(columns, stratified(columns["label"], (0.7, None), seed=seed))) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iris", "digits", "breast cancer"])
def test_sound_splits_of_real_data_give_no_alarm(name):
    columns = clean(name)
    for seed in range(20):
        assert check_splits(split(columns, stratified(columns["label"], (0.7, None), seed=seed))) == [], seed
        mixed = {name: values for name, values in people(seed).items() if name != "household_id"}
        assert check_splits(split(mixed, shuffled(N, (0.7, None), seed=seed)), target="rich") == [], seed


@pytest.mark.slow
def test_the_official_split_of_adult_gives_no_alarm_and_takes_seconds():
    needs_data("adult")
    parts = {part: in_memory(tfds_source("adult", part)).columns for part in ("train", "test")}
    begun = time.monotonic()
    assert check_splits(parts, target="income") == []
    assert time.monotonic() - begun < 20
    rng = np.random.default_rng(0)
    rows = rng.choice(32561, 200, replace=False)
    leaked = {name: np.r_[values, parts["train"][name][rows]] for name, values in parts["test"].items()}
    found = check_splits({"train": parts["train"], "test": leaked}, target="income")
    assert rules(found) == ["duplicates"] and found[0].problem
