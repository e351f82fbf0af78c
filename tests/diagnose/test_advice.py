"""The largest batch against compiled neighbours, and the advice on devices with invented limits."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from research.__main__ import main
from research.data import generated
from research.diagnose import advice, cost, roofline
from research.diagnose.advice import advise, described, largest_batch, meshes
from research.diagnose.cost import TooLarge, plan
from research.diagnose.hlo import Executed, Transfer
from research.diagnose.roofline import Chip
from research.distributed.sharding import fsdp
from research.errors import UserError
from research.experiment import build
from research.model import from_nnx
from research.models.mlp import MLP
from research.objectives.classify import classify
from tests import toys

FOUR = jax.devices()[:4]
STATE = 4 * (64 * 256 + 256 + 256 * 8 + 8)  # bytes of the params


RULES = ((r"kernel$", fsdp(min_size=0)),)


def experiment(mesh=None, size=8, rules=RULES):
    """An MLP of 64 x 256 x 8 by plain SGD."""
    model = from_nnx(lambda rngs: MLP((64,), hidden=(256,), num_classes=8, rngs=rngs))
    data = {"x": np.zeros((size, 64), np.float32), "label": np.zeros(size, np.int64)}
    return toys.experiment(
        init=model.init, apply=model.apply, loss=classify(model, inputs="x"), optimizer=optax.sgd(0.1),
        source=generated(lambda seed: lambda step: data, size), steps=4, evals={}, mesh=mesh or {"data": -1},
        rules=rules, techniques=(),
    )  # fmt: skip


def test_the_largest_batch_fits_and_the_next_does_not():
    built = build(experiment({"data": 2}), devices=FOUR[:2])
    memory = plan(built, batch_size=74).bytes["total"]
    assert largest_batch(built, memory=memory) == 74
    assert largest_batch(built, memory=memory - 1) == 72
    assert plan(built, batch_size=76).bytes["total"] > memory
    with pytest.raises(UserError, match="a batch of 2 examples does not fit: .* GiB per device"):
        largest_batch(built, memory=STATE / 2)


def test_the_compilers_own_limit_counts(monkeypatch):
    """The TPU's compiler fails if memory does not suffice."""
    built = build(experiment({"data": 2}), devices=FOUR[:2])

    def limited(built, *, batch_size, options=None):
        if batch_size > 26:
            raise TooLarge("too large", needed=None)
        return cost.StepCost("cpu", 2, 0, {"total": 100 + batch_size}, 0.0, Executed(0.0, 0.0, {}))

    monkeypatch.setattr(advice, "plan", limited)
    assert largest_batch(built, memory=1000) == 26


def test_a_message_of_the_compiler_becomes_an_error_with_its_size():
    built = build(experiment({"data": 2}), devices=FOUR[:2])
    exhausted = "RESOURCE_EXHAUSTED: Ran out of memory "
    for message, needed in (
        ("in memory space hbm. Used 24.50G of 15.75G hbm. Exceeded hbm by 8.75G.", 24.5 * 2**30),
        ("on HBM, the memory required for HLO temporaries (512.5M) exceeds available HBM (15.75G).", 512.5 * 2**20),
        ("", None),
    ):
        found = cost._too_large(RuntimeError(exhausted + message), built, 8)
        assert found.needed == needed and "8 examples does not fit into the memory of a cpu" in str(found)
        assert ("15.8 GiB are there" in str(found)) == (needed is not None)
    with pytest.raises(ValueError):
        cost._too_large(ValueError("INTERNAL"), built, 8)


def test_the_roofline_is_the_longest_of_three():
    chip = Chip(flops=100.0, memory=0, bandwidth=10.0, network=1.0)
    found = roofline.roofline(
        Executed(200.0, 30.0, {"all-reduce": Transfer(1, 1.5), "all-gather": Transfer(2, 1.0)}), chip
    )
    assert found == (2.0, 3.0, 2.5) and found.seconds == 3.0 and found.limit == "memory"


def test_the_meshes():
    assert meshes(1) == [{"data": 1}]
    assert {"pipeline": 4, "data": 2} in meshes(8) and {"tensor": 8, "fsdp": 1} in meshes(8)
    assert all(np.prod(list(mesh.values())) == 12 for mesh in meshes(12))


@pytest.fixture
def limits(monkeypatch):
    """Sets the limits of a CPU device."""
    return lambda **changes: monkeypatch.setitem(
        roofline.CHIPS, "cpu", Chip(**{"flops": 1e12, "memory": 2**30, "bandwidth": 1e12, "network": 1e6, **changes})
    )


def test_data_parallel_replicas_are_advised_while_they_fit_and_fsdp_if_not(limits, monkeypatch):
    monkeypatch.setattr(advice, "PARTS", (2,))
    limits()
    many = experiment(size=2048)  # fewer, and it would be cheaper to gather the examples than the params
    choices = advise(many, devices=FOUR)
    assert choices[0].mesh == {"data": 4} and not choices[0].reason  # it sends the least over a slow network
    reasons = {str(choice.mesh): choice.reason for choice in choices}
    assert reasons["{'tensor': 2, 'fsdp': 2}"] == "no array is split over tensor"
    assert "advice: mesh={'data': 4}; network limits the step" in described(choices)
    alone = {str(choice.mesh): choice.needed for choice in choices}
    assert alone["{'fsdp': 4}"] < alone["{'data': 4}"]
    limits(memory=(alone["{'fsdp': 4}"] + alone["{'data': 4}"]) / 2)
    choices = advise(many, devices=FOUR)
    assert choices[0].mesh == {"fsdp": 4}
    limits(memory=alone["{'fsdp': 4}"] / 3)
    with pytest.raises(UserError, match=r"fits on no mesh of 4 x cpu.*{'fsdp': 4} needs the least.*Try 16 devices"):
        advise(many, devices=FOUR)


def test_an_experiment_that_runs_on_no_mesh_is_told(limits):
    limits()
    with pytest.raises(UserError, match="runs on no mesh of 2 x cpu: {'data': 2}: a batch of 7 examples.*use 6 or 8"):
        advise(experiment(size=7), devices=FOUR[:2])
    bad = ((r"kernel$", P("fdsp")),)
    with pytest.raises(UserError, match="runs on no mesh .*Did you mean 'fsdp'"):
        advise(experiment(rules=bad), devices=FOUR[:2])


def test_devices_without_limits_are_told():
    with pytest.raises(UserError, match="unknown kind of device for the roofline 'cpu'.*TPU v5 lite"):
        advise(experiment(), devices=FOUR)


def test_the_command_advises(capsys, limits, monkeypatch):
    limits(network=1e12)
    first = FOUR[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: first)
    assert main(["plan", "experiments/digits.py", "--network", "mlp", "--advise"]) == 0
    assert "advice: mesh={'data': 1}" in capsys.readouterr().out
    assert main(["plan", "experiments/digits.py", "--network", "mlp"]) == 0
    assert "roofline: at least" in capsys.readouterr().out
