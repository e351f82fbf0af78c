"""What a step will take: FLOPs against hand counts and XLA's, bytes against arithmetic, devices that are not there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.__main__ import main
from research.core import repeat
from research.data import generated
from research.diagnose.cost import described, flops, plan, topology_devices
from research.distributed.sharding import fsdp
from research.errors import UserError
from research.experiment import build
from research.model import from_nnx
from research.models.mlp import MLP
from research.objectives.classify import classify
from research.optim.compact_state import low_precision_state
from research.wrappers.lora import lora
from tests import toys

X = jnp.ones((8, 16))


def count(function, *args):
    return flops(jax.make_jaxpr(function)(*args).jaxpr)


def test_a_matrix_product_is_two_operations_for_each_multiplication():
    a, b = jnp.ones((3, 5, 7)), jnp.ones((3, 7, 2))
    assert count(jnp.matmul, a, b) == 2 * 3 * 5 * 7 * 2
    assert count(lambda a: jnp.einsum("bij,bkj->bik", a, a), a) == 2 * 3 * 5 * 5 * 7
    assert count(jax.grad(lambda w: jnp.tanh(X @ w).sum()), jnp.ones((16, 4))) == 2 * (2 * 8 * 16 * 4)
    assert count(lambda x: x + jnp.tanh(x), X) == 0


def test_a_convolution_agrees_with_xlas_own_count():
    x, kernel = jnp.ones((4, 12, 12, 6)), jnp.ones((3, 3, 3, 8))
    form = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 2}
    for stride in (1, 2):
        conv = lambda x, k, s=stride: jax.lax.conv_general_dilated(
            x, k, (s, s), "VALID", **form
        )  # no padding, no waste
        forward = jax.jit(conv).lower(x, kernel).compile().cost_analysis()["flops"]
        assert count(conv, x, kernel) == forward
        both = jax.grad(lambda x, k, conv=conv: conv(x, k).sum(), (0, 1))
        assert count(both, x, kernel) == pytest.approx(3 * forward, rel=0.45)  # the way back pads


def test_loops_branches_and_recomputation_count_as_often_as_they_run():
    w = jnp.ones((16, 16))
    once = count(lambda x: x @ w, X)
    body = lambda x, _: (x @ w, None)
    assert count(lambda x: repeat(body, x, None, length=5), X) == 5 * once
    assert count(lambda x: jax.lax.cond(True, lambda x: x @ w, lambda x: x @ w @ w, x), X) == 2 * once
    kept, anew = (count(jax.grad(lambda x, f=f: f(x).sum()), X) for f in (deep, jax.checkpoint(deep)))
    assert anew > kept
    assert count(jax.jit(lambda x: x @ w), X) == once


def deep(x):
    return jnp.tanh(jnp.tanh(x @ jnp.ones((16, 16))) @ jnp.ones((16, 16)))


def experiment(**changes):
    """An MLP of 4 x 6 + 6 + 6 x 3 + 3 params on 8 records."""
    model = from_nnx(lambda rngs: MLP((4,), hidden=(6,), num_classes=3, rngs=rngs))
    data = {"x": np.zeros((8, 4), np.float32), "label": np.zeros(8, np.int64)}
    fields = dict(init=model.init, apply=model.apply, loss=classify(model, inputs="x"), optimizer=optax.adam(0.1),
                  source=generated(lambda seed: lambda step: data, 8), steps=4, evals={}, init_from=None)  # fmt: skip
    return dataclasses.replace(toys.experiment(), **{**fields, **changes})


def test_a_plan_adds_up():
    one = jax.devices()[:1]
    found = plan(build(experiment(), devices=one))
    assert found.parameters == 51 and found.devices == 1 and found.executed.transfers == {}
    assert found.bytes["params"] == 4 * 51 and found.bytes["opt"] == 2 * 4 * 51 + 4
    assert found.bytes["batch"] == 8 * (4 * 4 + 4) and found.bytes["stats"] == 0
    assert found.bytes["total"] >= sum(found.bytes[part] for part in ("params", "opt", "batch", "activations"))
    assert found.flops == 2 * 8 * (2 * 4 * 6 + 3 * 6 * 3)  # the first layer's inputs need no gradient
    text = described(found)
    assert "51 parameters" in text and "activations" in text and "between devices: nothing" in text
    half = plan(build(experiment(optimizer=low_precision_state(optax.adam(0.1))), devices=one))
    assert half.bytes["opt"] < 0.6 * found.bytes["opt"]


def test_a_plan_is_of_one_step_and_of_each_device():
    single = plan(build(experiment(), devices=jax.devices()[:1]))
    strided = plan(build(experiment(stride=2, save_every=4, log_every=4), devices=jax.devices()[:1]))
    assert strided.flops == single.flops
    split = plan(build(experiment(), devices=jax.devices()[:4]))
    assert split.devices == 4 and split.bytes["batch"] == single.bytes["batch"] / 4
    assert split.flops == single.flops and split.executed.transfers["all-reduce"].bytes > 0
    assert "all-reduce" in described(split)


def test_a_plan_of_lora_splits_the_frozen_weights():
    model = lora(from_nnx(lambda rngs: MLP((4,), hidden=(8,), num_classes=3, rngs=rngs)), "kernel$", rank=1)
    parts = dict(init=model.init, apply=model.apply, loss=classify(model, inputs="x"))
    parts |= dict(mesh={"fsdp": 4}, rules=((r".", fsdp(min_size=0)),))
    found = plan(build(experiment(**parts), devices=jax.devices()[:4]))
    # Sizes that 4 does not divide are on each device: the 3 classes, and the scale of the update.
    factors = 4 * ((4 + 8 + 8) / 4 + 3)
    assert found.parameters == 4 + 8 + 8 + 3 and found.bytes["params"] == factors
    assert found.bytes["opt"] == 2 * factors + 4 and found.bytes["stats"] == 4 * ((4 * 8 + 8 + 8 * 3) / 4 + 3 + 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5x:2x2", "unknown TPU generation 'v5x'. Did you mean 'v5[ep]'"),
        ("v5e:3x3", "unknown topology 'v5e:3x3'; the nearest is v5e:2x4. Valid: v5e:1x1, "),
        ("v5p:8x8", "the nearest is v5p:4x4x4"),
        ("v5e", "the nearest is v5e:1x1"),
    ],
)
def test_unknown_topologies_name_the_nearest(name, message):
    with pytest.raises(UserError, match=message):
        topology_devices(name)


def test_a_compiler_that_is_not_installed_is_told(monkeypatch):
    from jax.experimental import topologies

    def fail(*_):
        raise RuntimeError("JAX TPU support not installed")

    monkeypatch.setattr(topologies, "get_topology_desc", fail)
    with pytest.raises(UserError, match=r"cannot compile for the topology 'v5e:2x2': JAX TPU.*-e '.\[tpu\]'"):
        topology_devices("v5e:2x2")


def test_the_command_prints_it_and_names_the_nearest_knob(capsys, monkeypatch):
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: first)
    assert main(["plan", "experiments/digits.py", "--network", "mlp"]) == 0
    assert f"{64 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10:,} parameters" in capsys.readouterr().out
    assert main(["plan", "experiments/digits.py", "--netwerk", "mlp"]) == 2 and "--network" in capsys.readouterr().err


def test_a_step_is_compiled_for_tpus_that_are_not_there():
    pytest.importorskip("libtpu", reason="the TPU's compiler is not installed: pip install -e '.[tpu]'")
    found = plan(build(experiment(mesh={"fsdp": 4}), devices=topology_devices("v5e:2x2")))
    assert found.devices == 4 and "TPU" in found.kind and found.bytes["batch"] > 0 and found.executed.transfers
