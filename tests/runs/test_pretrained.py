"""Starting from weights, and keeping some of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import draw
from research.data import arrays, batches
from research.errors import UserError
from research.experiment import Experiment, build
from research.model import from_nnx
from research.models.mlp import MLP
from research.objectives.classify import classify
from research.runs import pretrained
from research.wrappers.frozen import frozen, named_arrays

RNG = np.random.default_rng(0)
DATA = arrays(image=RNG.normal(size=(32, 4)).astype(np.float32), label=RNG.integers(0, 3, 32).astype(np.int32))
MODEL = from_nnx(lambda rngs: MLP((4,), hidden=(6, 6), num_classes=3, rngs=rngs))


@pytest.fixture
def saved(monkeypatch):
    """Stands for a run on disk, whose reading has its own tests: twelve layers, some statistics."""
    params = {"layers": {str(i): {"kernel": np.full((6, 6), float(i), np.float32)} for i in range(12)}}
    params["embed"] = {"kernel": RNG.normal(size=(4, 6)).astype(np.float32), "bias": np.ones(6, np.float32)}
    stats = {"model": {"norm": {"mean": np.arange(6.0, dtype=np.float32)}}, "frozen": {"base": np.ones(2, np.float32)}}
    monkeypatch.setattr(pretrained, "read_arrays", lambda run: (params, stats))
    return params


def load(params, names=None, stats=None, **options):
    lines = []
    tree = jax.tree.map(jnp.asarray, params)
    loaded = pretrained.pretrained("RUN", names, tell=lines.append, **options)(
        tree, jax.tree.map(jnp.asarray, stats or {})
    )
    return *loaded, "\n".join(lines)


def test_same_names_are_loaded_and_the_rest_stays(saved):
    here = {"embed": {"kernel": np.zeros((4, 6), np.float32)}, "head": {"kernel": np.full((6, 2), 9.0, np.float32)}}
    params, stats, table = load(here, stats={"model": {"norm": {"mean": np.zeros(6, np.float32)}}})
    np.testing.assert_array_equal(params["embed"]["kernel"], saved["embed"]["kernel"])
    assert float(params["head"]["kernel"][0, 0]) == 9.0
    assert stats["model"]["norm"]["mean"].tolist() == [0, 1, 2, 3, 4, 5]
    assert "loaded   embed/kernel" in table and "missing  head/kernel" in table


def test_renamed_stacked_unstacked_and_reshaped(saved):
    here = {
        "stack": {"kernel": np.zeros((12, 6, 6), np.float32)},
        "third": np.zeros((6, 6), np.float32),
        "flat": np.zeros(24, np.float32),
        "base": np.zeros(2, np.float32),
    }
    names = {r"stack/(.*)": r"layers/*/\1", "third": "layers/3/kernel", "flat": "embed/kernel", "base": "base"}
    params, _, table = load(here, names)
    assert params["stack"]["kernel"][:, 0, 0].tolist() == list(range(12))
    assert float(params["third"][0, 0]) == 3 and params["base"].tolist() == [1, 1]
    np.testing.assert_array_equal(params["flat"], saved["embed"]["kernel"].ravel())
    assert "reshaped flat" in table


def test_one_of_a_stack(monkeypatch):
    stack = {"blocks": {"kernel": np.arange(3, dtype=np.float32)[:, None] * np.ones(2, np.float32)}}
    monkeypatch.setattr(pretrained, "read_arrays", lambda run: (stack, {}))
    here = {"blocks": {str(i): {"kernel": np.zeros(2, np.float32)} for i in range(3)}}
    params, _, _ = load(here, {r"blocks/(\d+)/(.*)": r"blocks/\2[\1]"})
    assert [float(params["blocks"][str(i)]["kernel"][0]) for i in range(3)] == [0, 1, 2]
    here = {"blocks": {"3": here["blocks"]["0"]}}
    with pytest.raises(UserError, match=r"no array 'blocks/kernel\[3\]': blocks/kernel has 3 entries, from \[0\]"):
        load(here, {r"blocks/(\d+)/(.*)": r"blocks/\2[\1]"})


def test_a_run_of_lora_is_merged(monkeypatch):
    kernel, a, b = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 3), (4, 2), (2, 3)))
    there = {"frozen": {"up": {"kernel": kernel}}, "lora": {"scale": np.array(0.5, np.float32)}}
    monkeypatch.setattr(pretrained, "read_arrays", lambda run: ({"up": {"lora_a": a, "lora_b": b}}, there))
    fresh = {"up": {"lora_a": np.ones((4, 2), np.float32), "lora_b": np.zeros((2, 3), np.float32)}}
    frozen_here = {"frozen": {"up": {"kernel": np.zeros((4, 3), np.float32)}}}
    params, stats, table = load(fresh, stats=frozen_here, merge=True)
    np.testing.assert_allclose(stats["frozen"]["up"]["kernel"], kernel + 0.5 * (a @ b), rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, params, fresh)
    assert "loaded   up/kernel" in table and "missing  up/lora_a" in table
    monkeypatch.setattr(pretrained, "read_arrays", lambda run: ({}, {}))
    with pytest.raises(UserError, match="the stats have no entry 'frozen'; expected the stats of lora"):
        load(fresh, merge=True)


def test_mistakes_are_named(saved):
    here = {"embed": {"kernel": np.zeros((4, 7), np.float32)}}
    with pytest.raises(UserError, match=r"embed/kernel has shape \(4, 7\), but embed/kernel in RUN has \(4, 6\)"):
        load(here)
    with pytest.raises(UserError, match="no array 'embed/kernl'. Did you mean 'embed/kernel'"):
        load(here, {"embed/kernel": "embed/kernl"})
    with pytest.raises(UserError, match=r"no array 'layers/\*/kernl'"):
        load(here, {"embed/kernel": "layers/*/kernl"})
    with pytest.raises(UserError, match="pattern 'nowhere' matches no array here"):
        load(here, {"nowhere": "embed/kernel"})


def test_frozen_params_stay_without_moments():
    model = frozen(MODEL, r"^layers/")
    experiment = Experiment(
        init=model.init, apply=model.apply, loss=classify(model), optimizer=optax.adamw(0.1), source=batches(DATA, 8),
        steps=5,
    )  # fmt: skip
    built = build(experiment, devices=jax.devices()[:1])
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    before = jax.device_get(state)
    assert set(state.params) == {"head"} and set(state.opt[0].mu) == {"head"}
    for step in range(5):
        state, sums = built.step(state, sums, batch_at(step))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.stats), before.stats)
    assert not np.array_equal(state.params["head"]["kernel"], before.params["head"]["kernel"])
    with pytest.raises(UserError, match="'nothing' matches no parameter"):
        frozen(MODEL, "nothing").init(draw(0))


def test_frozen_with_nothing_trained_computes_the_same():
    params, stats = MODEL.init(draw(1))
    model = frozen(MODEL, r"kernel$")
    kept, moved = model.init(draw(1))
    x = DATA.columns["image"]
    np.testing.assert_array_equal(model.apply(kept, moved, x)[0], MODEL.apply(params, stats, x)[0])
    assert all("kernel" in path for path in named_arrays({}, moved))
