"""Checks of data, on the digits and other real sets with one thing spoiled in them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine

from research.core import Eval
from research.data import arrays, batches, eval_batches, generated, subset
from research.diagnose import copies, data, suspects
from research.diagnose.case import make_case
from research.diagnose.finding import Finding
from research.diagnose.layer import first_layer_inputs
from research.diagnose.outcome import Passed, Skipped
from research.diagnose.tables import Table, tables
from research.metrics.classification import measure_classification
from research.metrics.probe import probe
from research.models.mlp import MLP
from tests.diagnose.patients import noisy, patient, records

ASKED = SimpleNamespace(question=SimpleNamespace(inputs=("image",), target="label"), silent="")
COLUMNS = SimpleNamespace(question=SimpleNamespace(inputs=("features",), target="label"), silent="")


def table(fields, name="train", *, total=None, drawn=False):
    count = len(fields["label"])
    return Table(name, name == "train", fields, np.arange(count), total or count, drawn)


def pair(change=lambda train, test: None):
    train, test = records(0), records(1)
    change(train, test)
    return [table(train), table(test, "test")]


def columns(load):
    found = load()
    order = np.random.default_rng(0).permutation(len(found.target))
    fields = {"features": found.data[order].astype(np.float32), "label": found.target[order].astype(np.int32)}
    cut = len(order) * 3 // 4
    return [table({k: x[:cut] for k, x in fields.items()}), table({k: x[cut:] for k, x in fields.items()}, "test")]


@pytest.mark.parametrize(
    ("case", "sets"),
    [(ASKED, pair()), (COLUMNS, columns(load_breast_cancer)), (COLUMNS, columns(load_wine))],
    ids=["digits", "breast cancer", "wine"],
)
def test_sound_data_pass(case, sets):
    assert isinstance(data.finite(sets), Passed)
    for check in (copies.duplicates, data.constant, suspects.giveaways, suspects.suspect_labels):
        assert isinstance(check(case, sets), Passed), check(case, sets)


def test_numbers_that_are_not_finite_are_named_by_set_field_and_record():
    sets = columns(load_wine)
    sets[1].fields["features"][7, 3] = np.nan
    found = data.finite(sets)
    assert found.problem and found.evidence == {"test/features": [7]}


def test_a_constant_column_is_named_and_a_white_corner_is_not():
    sets = columns(load_wine)
    sets[0].fields["features"][:, 5] = 2.5
    assert data.constant(COLUMNS, sets).evidence["features"] == ["features[..., 5]"]
    assert isinstance(data.constant(ASKED, pair()), Passed)
    blank = pair(lambda train, test: train["image"].fill(3))
    assert isinstance(data.constant(ASKED, blank), Finding)


def test_exact_and_near_copies_between_training_and_test_are_found():
    def change(train, test):
        test["image"][3] = train["image"][11]
        test["image"][[5, 6, 7]] = train["image"][[21, 22, 23]] + 1  # brighter

    found = copies.duplicates(ASKED, pair(change))
    assert found.problem and "1 of 200 records of test" in found.text and "3 are near copies" in found.text
    assert {tuple(p) for p in found.evidence["test in training"]} == {(3, 11), (5, 21), (6, 22), (7, 23)}
    assert "near, within training" in found.evidence and found.evidence["near, within training"] == 0
    one = copies.duplicates(ASKED, pair(lambda train, test: test["image"].__setitem__(3, train["image"][11])))
    assert isinstance(one, Finding) and not one.problem


def test_copies_within_training_are_worth_a_look_and_drawn_batches_are_not_asked():
    def change(train, test):
        train["image"][400:420] = train["image"][:20]

    found = copies.duplicates(ASKED, pair(change))
    assert not found.problem and "20 of 800 training records are copies" in found.text
    drawn = [pair()[0]._replace(drawn=True)]
    assert isinstance(copies.duplicates(ASKED, drawn), Skipped)


def test_sampling_is_said():
    sets = [table(records(0), total=60_000), table(records(1), "test")]
    assert "(800 of 60,000 records were read)" in data.finite(sets).text
    assert "(800 of 60,000 records were read)" in copies.duplicates(ASKED, sets).text


def test_labels_out_of_range_absent_classes_and_imbalance():
    sound = make_case(patient())
    assert "10 classes" in data.balance(sound, tables(sound)).text

    def only(keep):
        def change(train, test):
            train["label"][:] = np.where(keep(train["label"]), train["label"], 0)

        return change

    lacking = data.balance(sound, pair(only(lambda label: label != 7)))
    assert lacking.problem and "classes 7 are in test and never in training" in lacking.text
    few = pair(lambda train, test: train["label"].__setitem__(np.flatnonzero(train["label"] == 7)[2:], 0))
    assert not data.balance(sound, few).problem and "smallest 2" in data.balance(sound, few).text
    outside = pair(lambda train, test: train["label"].__setitem__(0, 12))
    assert data.balance(sound, outside).problem and "label 12 is none of the 10" in data.balance(sound, outside).text
    assert "num_classes=13" in data.balance(sound, outside).remedies

    def from_one(train, test):
        for part in (train, test):
            part["label"] += 1

    shifted = data.balance(sound, pair(from_one))
    assert shifted.problem and "label 10 is none of the 10 classes of the model, 0 to 9" in shifted.text
    assert shifted.remedies[0] == "number the classes from 0: subtract 1 from every label"
    absent = pair(lambda train, test: test["label"].__setitem__(test["label"] == 7, 1))
    assert not data.balance(sound, absent).problem and "trained and not in test" in data.balance(sound, absent).text


@pytest.mark.parametrize(("share", "trips"), [(0.0, False), (0.2, True), (0.4, True)])
def test_wrong_labels_are_suspected(share, trips):
    clean, found = records(0)["label"], suspects.suspect_labels(ASKED, pair(noisy(share)))
    assert isinstance(found, Finding) == trips, found
    if trips:
        assert found.problem
        wrong = [
            clean[row] != label for row, label in zip(found.evidence["records"], found.evidence["labels"], strict=True)
        ]
        assert np.mean(wrong) > 0.9
        assert 0.5 * share < found.evidence["share"] < share


def test_classes_that_overlap_are_worth_a_look():
    """Two Gaussians at a distance of one standard deviation: the best possible classifier is right for 69 %."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    features = rng.normal(size=(1000, 2)) + labels[:, None] * [1.0, 0.0]
    found = suspects.suspect_labels(COLUMNS, [table({"features": features, "label": labels})])
    assert isinstance(found, Finding) and not found.problem and "Or the classes overlap" in found.text


def test_shuffled_labels_are_named():
    def shuffle(train, test):
        train["label"] = np.random.default_rng(1).permutation(train["label"])

    found = suspects.suspect_labels(ASKED, pair(shuffle))
    assert isinstance(found, Finding) and not found.problem
    assert "unrelated to the inputs" in found.text and "in the same order" in found.remedies[0]
    # Of rare positives, models that are never sure still rank: no alarm.
    rng = np.random.default_rng(0)
    labels = (rng.random(2_000) < 0.03).astype(int)
    weak = np.clip(0.03 + 0.02 * labels + 0.01 * rng.normal(size=2_000), 0.001, 0.2)
    p = np.stack([1 - weak, weak], 1)
    assert (p.argmax(1) == 0).all() and suspects.association(labels, p) > 3
    # The deviations of the statistic under random order are the standard normal's.
    drawn = [suspects.association(rng.permutation(labels), p) for _ in range(200)]
    assert abs(np.mean(drawn)) < 0.3 and 0.8 < np.std(drawn) < 1.25


def test_confident_learning_by_hand():
    # The thresholds are 0.525 and 0.75: record 1 counts as truly 1, record 3, at 0.3 and 0.7, as nothing.
    labels = np.array([0, 0, 0, 0, 1, 1])
    of_one = np.array([0.1, 0.8, 0.3, 0.7, 0.7, 0.8])
    found = suspects.confident_learning(labels, np.stack([1 - of_one, of_one], 1))
    np.testing.assert_array_equal(found.rows, [1])
    np.testing.assert_array_equal(found.proposed, [1])
    np.testing.assert_allclose(found.joint, [[4 / 9, 2 / 9], [0, 1 / 3]])


def test_a_label_is_suspected_only_where_both_models_hold_it_to_be_the_same_other(monkeypatch):
    sets = pair()
    labels, sure = sets[0].fields["label"], np.eye(10) * 0.9 + 0.01
    wrong = np.where(np.arange(len(labels)) % 4 == 0, (labels + 1) % 10, labels)

    def suspected(*answers):
        given = iter(answers)
        monkeypatch.setattr(suspects, "_out_of_fold", lambda model, x, y: sure[next(given)])
        return isinstance(suspects.suspect_labels(ASKED, sets), Finding)

    assert suspected(wrong, wrong)
    assert not suspected(wrong, labels)
    assert not suspected(wrong, np.where(wrong == labels, labels, (labels + 2) % 10))


def test_repeated_rows_of_text_are_common_and_many_are_not():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 256, (300, 16)).astype(np.int32)
    asked = SimpleNamespace(question=SimpleNamespace(inputs=("tokens",), target=None), silent="")

    def sets(count):
        test = tokens[200:].copy()
        test[:count] = tokens[:count]
        parts = {"train": tokens[:200], "test": test}
        return [Table(n, n == "train", {"tokens": x}, np.arange(len(x)), len(x), False) for n, x in parts.items()]

    assert isinstance(copies.duplicates(asked, sets(3)), Passed)
    assert not copies.duplicates(asked, sets(20)).problem and copies.duplicates(asked, sets(80)).problem


def test_a_feature_that_gives_the_label_away():
    def leak(train, test):
        train["image"][:, 2, 3, 0] = (7 * train["label"] + 3) % 11

    found = suspects.giveaways(ASKED, pair(leak))
    assert found.problem and found.evidence["features"] == [19]
    sets = columns(load_breast_cancer)
    rng = np.random.default_rng(0)
    sets[0].fields["features"][:, 4] = sets[0].fields["label"] + 0.1 * rng.normal(size=len(sets[0].rows))
    assert suspects.giveaways(COLUMNS, sets).evidence["features"] == [4]


def test_what_reaches_the_first_layer_is_looked_at_and_not_what_is_stored():
    sound = make_case(patient())
    assert isinstance(data.scale(sound, tables(sound)), Passed)
    for prepare in (lambda x: x.astype(jnp.float32), lambda x: 16.0 * x, lambda x: x / 16 / 255):
        raw = make_case(patient(prepare=prepare))
        found = data.scale(raw, tables(raw))
        assert isinstance(found, Finding) and found.problem, found
    other = data.scale(sound, pair(lambda train, test: test.update(image=test["image"] / 255)))
    assert other.problem and "in test" in other.text


def test_the_first_layer_is_found_behind_calls_and_convolutions():
    image = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    kernel = jnp.ones((3, 3, 3, 4))

    def convolve(params, stats, x, train):
        form = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        conv = jax.jit(lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", **form))
        y = conv(jax.nn.relu(2 * x) + 1, params["k"])
        return y.reshape(len(y), -1) @ params["w"], {}

    params = {"k": kernel, "w": jnp.ones((6 * 6 * 4, 2))}
    np.testing.assert_allclose(first_layer_inputs(convolve, params, {}, (image,)), 2 * image.clip(0) + 1, rtol=1e-6)
    table = lambda params, stats, x, train: (params["w"][x], {})
    assert first_layer_inputs(table, params, {}, (np.arange(3),)) is None


def test_columns_of_few_values_repeat_by_nature():
    bits = np.random.default_rng(0).integers(0, 2, (2000, 10)).astype(np.float32)
    label = (bits.sum(1) % 2).astype(np.int32)
    train, test = (arrays(image=bits[part], label=label[part]) for part in (slice(1600), slice(1600, None)))
    evals = {"test": Eval(eval_batches(test, 100), measure_classification(num_classes=2))}
    network = lambda rngs: MLP((10,), hidden=(8,), num_classes=2, rngs=rngs)
    case = make_case(patient(network=network, prepare=lambda x: x, source=batches(train, 32), evals=evals))
    found = copies.duplicates(case, tables(case))
    assert isinstance(found, Finding) and not found.problem, found


def test_what_a_probe_is_fitted_to_is_no_leak():
    """Its evaluation set holds training records on purpose, and is judged on the others."""
    made = patient()
    train, test = arrays(**records(0)), arrays(**records(1))
    fitted = probe(train, test)
    case = make_case(patient(source=batches(train, 32), evals={**made.evals, "probe": fitted}))
    (found,) = [table for table in tables(case) if table.name == "probe"]
    assert len(found.rows) == len(found.fields["label"]) == found.total == len(test) and not found.sampled
    assert isinstance(copies.duplicates(case, tables(case)), Passed)


def test_tables_read_each_set_once_and_sample_what_is_large():
    made = patient()
    train = arrays(**records(0))
    extra = {"again": made.evals["test"], "on train": made.evals["test"]._replace(source=eval_batches(train, 100))}
    case = make_case(patient(source=batches(train, 32), evals={**made.evals, **extra}))
    assert [(t.name, t.training, len(t.rows)) for t in tables(case)] == [
        ("train", True, 800),
        ("test", False, 200),
    ]
    few = tables(case, most=50)[0]
    assert len(few.rows) == 50 and few.total == 800
    np.testing.assert_array_equal(few.fields["label"], train.columns["label"][few.rows])
    source = generated(batches(subset(train, np.arange(64)), 32), 32)
    drawn = tables(make_case(patient(source=source)))[0]
    assert drawn.drawn and len(drawn.rows) == 8 * 32
