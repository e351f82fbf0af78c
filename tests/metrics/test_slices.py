import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from research.core import Eval, State, Trained
from research.data import arrays, eval_batches, subset
from research.data.readers.arrays import Arrays
from research.distributed.sharding import make_mesh
from research.errors import UserError
from research.evaluate import evaluator
from research.metrics.classification import measure_classification
from research.metrics.language import measure_language
from research.metrics.probe import measure_features, score
from research.metrics.scores import chain, class_scores, composite, ranking
from research.metrics.slices import Slices, bands, classes, sliced

RNG = np.random.default_rng(0)
COUNT = 83
LABEL = RNG.integers(2, size=COUNT)
DATA = arrays(
    image=(RNG.normal(size=(COUNT, 4)) + LABEL[:, None]).astype(np.float32),
    label=LABEL,
    length=RNG.integers(0, 30, COUNT).astype(np.int32),
    source=RNG.integers(-1, 2, COUNT).astype(np.int32),
)
W = RNG.normal(size=(4, 2)).astype(np.float32)
MEASURE = measure_classification(num_classes=2)
FINISH = chain(class_scores("macro"), ranking(), composite(higher={"auc": 1}, lower={"brier": 1}))
LENGTH = bands(lambda batch: batch["length"], (-5, 10, 20))
SOURCE = Slices(lambda batch: batch["source"], ("web", "books"))


def linear(params, stats, x, *, key=None, train=False):
    return x @ params, {}


def run(ev, *, apply=linear, params=W, devices=1):
    state = State(None, None, None, params, {}, None)
    return evaluator(ev, apply, mesh=make_mesh({"data": devices}, devices=jax.devices()[:devices]))(state)


@pytest.fixture(scope="module")
def found():
    """On four devices, in batches whose last is ragged."""
    by = {"length": LENGTH, "source": SOURCE, "class": classes(("no", "yes"))}
    checked = Eval(eval_batches(DATA, 24), MEASURE, finish=FINISH)
    return run(sliced(checked, by=by, higher=["accuracy", "auc"], lower=["loss"]),
               devices=4)  # fmt: skip


def test_a_slice_has_the_numbers_of_the_set_that_is_that_slice_alone(found):
    length, source = DATA.columns["length"], DATA.columns["source"]
    ways = {
        "length": [length < -5, length < 10, (length >= 10) & (length < 20), length >= 20],
        "source": [source == 0, source == 1],
        "class": [LABEL == 0, LABEL == 1],
    }
    plain = run(Eval(eval_batches(DATA, COUNT), MEASURE, finish=FINISH))
    for name, value in plain.numbers.items():
        assert found.numbers[name] == pytest.approx(value, rel=1e-5)
    np.testing.assert_array_equal(found.arrays["confusion"], plain.arrays["confusion"])
    for way, members in ways.items():
        assert found.arrays[f"slices/{way}/count"].tolist() == [part.sum() for part in members]
        for k, part in enumerate(members):
            own = {name: found.arrays[f"slices/{way}/{name}"][k] for name in plain.numbers}
            if part.any():
                alone = run(
                    Eval(eval_batches(subset(DATA, np.flatnonzero(part)), COUNT), MEASURE, finish=FINISH)
                ).numbers
            else:
                alone = dict.fromkeys(plain.numbers, np.nan)
            assert own == pytest.approx(dict(alone), rel=1e-5, nan_ok=True)
            assert (found.rows[f"slice/{way}"][part] == k).all()
    assert found.arrays["slices/length"].tolist() == ["< -5", "-5 to 10", "10 to 20", ">= 20"]
    assert found.arrays["slices/class"].tolist() == ["no", "yes"]


def test_the_worst_slice_is_the_least_of_what_is_better_higher(found):
    for metric, worst in (("accuracy", np.nanmin), ("auc", np.nanmin), ("loss", np.nanmax)):
        for way in ("length", "source"):
            values = found.arrays[f"slices/{way}/{metric}"]
            assert len(set(values)) > 1 and found.numbers[f"{metric}/worst_{way}"] == worst(values)
    assert np.isnan(found.numbers["auc/worst_class"])  # no slice has two classes
    assert sum("/" in name for name in found.numbers) == 9


def test_the_text_shows_what_is_watched(found):
    blocks = [[line.split() for line in block.split("\n")] for block in found.texts["slices"].split("\n\n")]
    assert [block[0] for block in blocks] == [[way, "count", "accuracy", "auc", "loss"]
                                              for way in ("length", "source", "class")]  # fmt: skip
    assert blocks[1][1][:2] == ["web", str((DATA.columns["source"] == 0).sum())]
    assert float(blocks[1][2][2]) == pytest.approx(found.arrays["slices/source/accuracy"][1], abs=1e-4)


def test_any_evaluation_can_be_sliced_and_the_model_runs_once():
    tokens = RNG.integers(1, 7, (12, 9))
    segments = np.where(np.arange(9) < RNG.integers(2, 10, 12)[:, None], 1, 0)
    data = arrays(tokens=tokens, segments=segments, positions=np.tile(np.arange(9), (12, 1)))
    table = RNG.normal(size=(7, 7)).astype(np.float32)
    seen = []

    def network(params, stats, tokens, segments, positions, *, key=None, train=False):
        seen.append(tokens.shape)
        return params[tokens] @ params, {}

    long = bands(lambda batch: (batch["segments"] > 0).sum(-1), (5,))
    ev = Eval(eval_batches(data, 8), measure_language(bytes_of=lambda labels: jnp.ones(labels.shape)))
    results = run(sliced(ev, by={"tokens": long}), apply=network, params=table)
    assert set(seen) == {(8, 9)}
    part = np.flatnonzero((segments > 0).sum(1) < 5)
    alone = run(ev._replace(source=eval_batches(subset(data, part), 8)), apply=network, params=table)
    names = {"loss", "accuracy", "perplexity", "bits_per_byte", "byte_perplexity"}
    assert set(alone.numbers) == names and 0 < len(part) < 12
    for name, value in alone.numbers.items():
        assert results.arrays[f"slices/tokens/{name}"][0] == pytest.approx(value, rel=1e-5)
    measure = sliced(ev, by={"tokens": long}).measure
    batch = {name: column[:8] for name, column in data.columns.items()}
    program = jax.jit(lambda params, batch: measure(Trained(network, params, {}), batch)).lower(table, batch).as_text()
    assert program.count("dot_general") == 1


def test_what_is_nan_is_in_no_slice():
    ways = bands(lambda batch: batch["x"], (0.0, 1.0))
    x = np.array([-1, 0, 0.5, 1, np.nan, np.inf])
    assert ways.of({"x": x}).tolist() == [0, 1, 1, 2, -1, 2]


def test_an_evaluation_of_rows_alone_is_sliced_where_its_numbers_can_be_had():
    """A linear probe cannot be fitted to the records of one class."""
    label = np.arange(40, dtype=np.int32) % 2
    data = arrays(image=np.eye(2, dtype=np.float32)[label], label=label, half=(np.arange(40) // 20).astype(np.int32))
    test = eval_batches(Arrays({**data.columns, "split": np.arange(40, dtype=np.int32) // 2 % 2}), 16)
    made = sliced(
        Eval(test, measure_features(), finish=score()), by={"class": classes(2), "half": classes(2, labels="half")}
    )
    found = run(made, apply=lambda params, stats, x, train=False: (x, {}))
    np.testing.assert_array_equal(found.arrays["slices/class/probe_accuracy"], [np.nan, np.nan])
    np.testing.assert_array_equal(found.arrays["slices/half/probe_accuracy"], [1, 1])


def test_mistakes_are_told(monkeypatch):
    ev = Eval(eval_batches(DATA, 24), MEASURE)
    with pytest.raises(UserError, match="unknown metric 'acuracy'.*accuracy"):
        run(sliced(ev, by={"source": SOURCE}, higher=["acuracy"]))
    with pytest.raises(UserError, match=r"slices by 'x' are float32\[24, 4\]; expected one int for each of 24"):
        run(sliced(ev, by={"x": Slices(lambda batch: batch["image"], ("a",))}))
    with pytest.raises(UserError, match="must not contain a slash"):
        sliced(ev, by={"a/b": SOURCE})
    # Without the check of annotations, as outside the tests.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for edges in ((), (1, 1), (2, 1), (np.nan,), ((1, 2), (3, 4))):
        with pytest.raises(UserError, match="edges .* of slices"):
            bands(lambda batch: batch["length"], edges)
