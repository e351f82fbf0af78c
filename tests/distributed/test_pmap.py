"""`--strategy pmap` on four devices against jit on four and on one, for the same experiment."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from research import verbs
from research.__main__ import main
from research.core import Mean, Out, not_additive, weighted_mean
from research.data import batches
from research.distributed.pmap import check_replicated
from research.distributed.sharding import make_mesh, place
from research.errors import UserError
from research.experiment import build
from research.gradients.private import private
from research.layers.batch_norm import BatchNorm
from research.model import from_nnx
from tests import toys
from tests.models.fresh import fresh

ONE, FOUR = jax.devices()[:1], jax.devices()[:4]


def masked(apply):
    """Squared error of a few rows of the batch: of some devices' parts no row counts."""

    def loss(params, ctx):
        y, stats = apply(params, ctx.stats, ctx.batch["x"], key=ctx.key, train=True)
        mean = weighted_mean((y - ctx.batch["y"]) ** 2, ctx.batch["label"] == 0)
        return mean.value(), Out(stats, {"loss": mean, "rows": Mean(jnp.float32(len(y)), jnp.float32(1))})

    return loss


def experiment(**changes):
    return toys.experiment(**{"loss": masked(toys.model().apply), **changes})


def losses(made, *, strategy, devices, steps=6):
    """(the loss after every call, the last State, the compiled step)."""
    built = build(made, strategy=strategy, devices=devices)
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    found, axis = [], int(made.stride > 1)
    for step in range(0, steps, made.stride):
        state, sums = built.step(state, sums, place(batch_at(step), built.mesh, axis=axis))
        found.append(float(sums.total.sum["loss"].value()))
    return found, state, sums


@pytest.mark.parametrize("changes", [{}, {"stride": 2, "log_every": 4, "save_every": 4}, {"on_nonfinite": "skip"}])
def test_pmap_gives_what_jit_and_one_device_give(changes):
    made = experiment(**changes)
    alone, mesh, mapped = (
        losses(made, strategy=s, devices=d) for s, d in (("jit", ONE), ("jit", FOUR), ("pmap", FOUR))
    )
    for found in (mesh, mapped):
        np.testing.assert_allclose(found[0], alone[0], rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found[1], alone[1])
    assert len(set(alone[0])) == len(alone[0]) and int(mapped[1].step) == 6
    # It really was one program a device: each saw two of the eight rows.
    assert float(mapped[2].total.sum["rows"].value()) == 2 and float(mesh[2].total.sum["rows"].value()) == 8


class Net(nnx.Module):
    """A layer, batch normalisation, a layer."""

    def __init__(self, group_size, *, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = BatchNorm(4, group_size=group_size)
        self.last = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x, *, train, rngs=None):
        return self.last(nnx.relu(self.norm(self.first(x), train=train)))[:, 0]


def test_batch_norm_differs_under_pmap_unless_its_groups_are_the_rows_of_a_device():
    def run(group_size, strategy):
        model = from_nnx(lambda rngs: Net(group_size, rngs=rngs))
        made = toys.experiment(
            init=lambda key: fresh(model), apply=model.apply, loss=toys.loss_of(model.apply, noise=0.0),
            optimizer=optax.sgd(0.1),
        )  # fmt: skip
        return losses(made, strategy=strategy, devices=FOUR, steps=4)

    grouped, whole_batch, mapped = run(2, "jit"), run(None, "jit"), run(2, "pmap")
    np.testing.assert_allclose(mapped[0], grouped[0], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), mapped[1].stats, grouped[1].stats)
    np.testing.assert_allclose(run(None, "pmap")[0], mapped[0], rtol=1e-5)  # a device's rows, whatever the layer says
    assert abs(whole_batch[0][-1] - mapped[0][-1]) > 1e-3


def _whole(params, ctx):
    value, out = masked(toys.model().apply)(params, ctx)
    return value, Out(out.stats, {**out.metrics, "loss": not_additive(out.metrics["loss"])})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": _whole}, "not a sum over examples"),
        ({"mesh": {"data": 2, "tensor": 2}}, "mesh axis 'tensor' of 2 needs jit"),
        ({"source": batches(toys.DATA, 10)}, "batch of 10 examples cannot be split over 4 devices"),
    ],
)
def test_pmap_refuses_with_a_reason(changes, message):
    with pytest.raises(UserError, match=message):
        build(experiment(**changes), strategy="pmap", devices=FOUR)


def test_an_unknown_strategy_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'pmap'"):
        build(experiment(), strategy="pmpa")


def test_rules_that_split_are_refused():
    split = NamedSharding(make_mesh({"data": 4}, devices=FOUR), PartitionSpec("data"))
    with pytest.raises(UserError, match="rules that split arrays need jit"):
        check_replicated({"w": split}, split.mesh)


FILE = """
from research.core import Eval
from research.data import eval_batches
from tests import toys
from tests.distributed import test_pmap
def experiment(*, steps: int = 10):
    evals = {"test": Eval(eval_batches(toys.DATA, 13), toys.measure, every=10)}
    return test_pmap.experiment(steps=steps, evals=evals)
"""


def test_a_run_goes_on_under_the_other_strategy(tmp_path, capsys):
    """The same checkpoints, loop, evaluation and record; four devices do not divide the 13 rows of an evaluation."""
    file = tmp_path / "small.py"
    file.write_text(FILE)
    assert main(["train", str(file), "--runs", str(tmp_path), "--strategy", "pmpa"]) == 2
    assert "Did you mean 'pmap'" in capsys.readouterr().err
    train = functools.partial(verbs.train, file, report=False)
    unbroken = train(runs=tmp_path / "one", steps=20)
    first = train(runs=tmp_path / "two", steps=20, strategy="pmap", watch=True)
    for name, numbers in unbroken.results.items():
        for metric, value in numbers.items():
            assert first.results[name][metric] == pytest.approx(value, rel=1e-4)
    half = train(runs=tmp_path / "three", strategy="pmap")
    rest = train(runs=tmp_path / "three", steps=20, start_from=str(half.folder))
    assert rest.results["test"]["mse"] == pytest.approx(unbroken.results["test"]["mse"], rel=1e-4)
    assert "layers/gradient/" in (first.folder / "metrics.jsonl").read_text()
    assert "on each of 4 devices: params 16 B of 16 B" in (first.folder / "timing.jsonl").read_text()


def test_private_gradients_are_refused():
    grad_fn = private(toys.loss_of(toys.model().apply), clip=1.0, noise=1.0, expected=8.0)
    build(experiment(grad_fn=grad_fn), devices=FOUR)
    with pytest.raises(UserError, match="private cannot run under pmap"):
        build(experiment(grad_fn=grad_fn), devices=FOUR, strategy="pmap")
