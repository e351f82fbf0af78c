"""Each rule against runs that are really trained: broken ones that must trip it, and sound ones that must trip none."""

import jax
import jax.numpy as jnp
import optax
import pytest

from research.data import batches
from research.diagnose.examine import examine
from research.runs.experiment_file import load
from research.runs.knobs import knobs_of, resolve
from research.runs.reader import read_run
from tests.diagnose.trained import changed, data, experiment, mlp, slow, trained

pytestmark = pytest.mark.slow  # trains for minutes


def rules(folder):
    return {found.rule for found in examine(folder)}


def noted(notes):
    """The rules that were told while the run went on; each once."""
    told = [note.text.split(": ")[1] for note in notes]
    assert len(told) == len(set(told))
    return set(told)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("sound") / "run", experiment())


def test_a_sound_run_trips_nothing(sound):
    folder, notes = sound
    assert rules(folder) == set() and notes == []
    lines = [line for line in read_run(folder).metrics if "layers/gradient/layers/0" in line]
    assert [line["step"] for line in lines] == list(range(20, 201, 20))
    assert all(line["memory"] > 2**20 for line in read_run(folder).timing if "event" not in line)


def test_the_same_run_again_records_the_same(sound, tmp_path):
    folder, _ = trained(tmp_path / "run", experiment())
    assert (folder / "metrics.jsonl").read_bytes() == (sound[0] / "metrics.jsonl").read_bytes()


# The same program on other data: nothing more is compiled.
SAME = {
    "label noise": (lambda: experiment(records=data(noise=0.3)), {"label noise"}, set()),
    "unnormalised": (
        lambda: experiment(records=data(scale=1000, offset=5000)), {"exploding gradient"}, {"exploding gradient"},
    ),
    "spike": (
        lambda: experiment(
            source=changed(batches(data()[0], 64), lambda s, b: {**b, "image": b["image"] * (60 if s == 120 else 1)})
        ),
        {"loss spike"}, {"loss spike"},
    ),
    "starved": (
        lambda: experiment(source=changed(batches(data()[0], 64), slow)), {"data starvation"}, {"data starvation"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_broken_data(name, tmp_path):
    broken, expected, told = SAME[name]
    folder, notes = trained(tmp_path / "run", broken())
    # What trains badly may also end as under-fitting, by a little.
    assert expected <= rules(folder) <= expected | {"under-fitting"}
    assert noted(notes) == told


def test_dead_units(tmp_path):
    folder, notes = trained(tmp_path / "run", experiment(mlp(bias=-100.0)))
    assert rules(folder) == noted(notes) == {"dead units", "stalled"}


OTHER = {
    "detached": (lambda: experiment(mlp(hidden=(64, 64, 64), detached=1)), {"no gradient"}),
    "rate too high": (lambda: experiment(optimizer=optax.adam(1.0)), {"stalled", "dead units"}),
    "rate too low": (lambda: experiment(optimizer=optax.adam(1e-8)), {"stalled", "update size"}),
    "large weights": (
        lambda: experiment(mlp(hidden=(64,) * 6, scale=30.0), optimizer=optax.sgd(1e-12)),
        {"exploding gradient", "stalled", "update size"},
    ),
    "deep sigmoids": (
        lambda: experiment(mlp(hidden=(64,) * 8, activation=jax.nn.sigmoid, scale=1.0)),
        {"vanishing gradient", "stalled"},
    ),
    "saturated": (
        lambda: experiment(mlp(activation=jax.nn.sigmoid, scale=1.0), records=data(scale=300, offset=300)),
        {"saturated activations"},
    ),
    "memorised": (
        lambda: experiment(records=[data(noise=0.5)[0], data()[1]], optimizer=optax.adam(1e-2), steps=600),
        {"over-fitting"},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER)
def test_broken_training(name, tmp_path):
    broken, expected = OTHER[name]
    folder, notes = trained(tmp_path / "run", broken())
    assert expected <= rules(folder) | noted(notes)


def of(file, **knobs):
    loaded = load(file)
    return loaded.function(**resolve(knobs_of(loaded.function), {name: str(value) for name, value in knobs.items()}))


SOUND = {
    "tanh": lambda: experiment(mlp(activation=jnp.tanh, scale=1.0)),
    "sigmoid": lambda: experiment(mlp(activation=jax.nn.sigmoid, scale=1.0), optimizer=optax.adam(1e-2)),
    "sgd": lambda: experiment(optimizer=optax.sgd(0.1)),
    "convolutions, smoothing, dropout, augmentation": lambda: of("experiments/digits.py", epochs=12),
    "regression": lambda: of("experiments/tabular/regression.py"),
    "table": lambda: of("experiments/tabular/breast_cancer.py"),
    "transformer": lambda: of(
        "experiments/language/gpt_stdlib.py", width=32, depth=2, length=32, steps=200, batch_size=16
    ),
    "two players": lambda: of("experiments/generative/gan.py", hidden=64, steps=300),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_sound_training(name, tmp_path):
    folder, notes = trained(tmp_path / "run", SOUND[name]())
    assert rules(folder) == set() and notes == []
