"""Rules and meshes; and one step function on every mesh of eight devices (tests/sharded.py) against one device."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from research.core import State
from research.distributed.sharding import (
    AXES,
    constrain,
    fsdp,
    make_mesh,
    num_shards,
    padded,
    place,
    shardings,
    table,
    under,
)
from research.errors import UserError
from research.experiment import build
from research.models.gpt import rules
from research.tree import path_name
from tests import toys
from tests.sharded import CASES

ONE, FOUR = jax.devices()[:1], jax.devices()[:4]


def mesh_of(**axes):
    return make_mesh(axes, devices=FOUR)


def state(params, optimizer=None, stats=None):
    """An abstract State with these params {path: shape}."""
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in params.items()}
    opt = jax.eval_shape(optimizer.init, params) if optimizer else {}
    number = jax.ShapeDtypeStruct((), jnp.uint32)
    stats = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in (stats or {}).items()}
    return State(number, number, number, params, stats, opt)


def specs(tree, mesh, table):
    """{path: spec} of what is split."""
    found = {path_name(path): s.spec for path, s in jax.tree.leaves_with_path(shardings(tree, mesh, table))}
    return {name: tuple(spec) for name, spec in found.items() if any(spec)}


def test_a_mesh_has_all_axes_and_one_takes_what_is_left():
    mesh = make_mesh({"tensor": 2, "data": -1}, devices=FOUR)
    assert tuple(mesh.shape) == AXES and mesh.shape["data"] == mesh.shape["tensor"] == 2 and mesh.size == 4
    # Neighbours are on the fastest network: the last axis.
    assert [d.id for d in mesh.devices[0, 0, 0, 0, 0, :]] == [d.id for d in FOUR[:2]]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"data": 3}, "does not fit 4 devices.*nearest is {'data': 4}"),
        ({"data": -1, "fsdp": -1}, "does not fit 4 devices.*nearest is {'data': 4, 'fsdp': 1}"),
        ({"data": -1, "fsdp": 8}, "does not fit 4 devices.*nearest is {'data': 1, 'fsdp': 4}"),
        ({"tensor": 3}, "does not fit 4 devices.*nearest is {'tensor': 2, 'data': 2}"),
        ({"data": 0}, "does not fit 4 devices.*nearest is {'data': 4}"),
        ({"fdsp": 4}, "unknown mesh axis 'fdsp'. Did you mean 'fsdp'"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(axes, message):
    with pytest.raises(UserError, match=message):
        make_mesh(axes, devices=FOUR)


def test_the_first_match_wins_and_the_rest_is_replicated():
    table = ((r"a/kernel$", P("tensor")), (r"kernel$", P(None, "tensor")), (r"^params/b", P("data")))
    tree = state({"a/kernel": (4, 4), "b/kernel": (4, 4), "b/bias": (4,), "c/bias": (4,)})
    found = specs(tree, mesh_of(data=2, tensor=2), table)
    assert found == {
        "params/a/kernel": ("tensor",),
        "params/b/kernel": (None, "tensor"),
        "params/b/bias": ("data",),
    }


def test_an_optimizer_leaf_follows_where_path_and_shape_match():
    params = {"a/kernel": (128, 256), "kernel": (4,)}
    optimizer = optax.chain(optax.adam(1e-3), optax.scale_by_factored_rms(min_dim_size_to_factor=128))
    tree = state(params, optimizer, {"teacher/a/kernel": (128, 256), "teacher/kernel": (5,), "queue": (8, 2)})
    table = ((r"a/kernel$", P("fsdp", "tensor")), (r"kernel$", P("fsdp")), (r"^stats/queue", P("fsdp")))
    found = specs(tree, mesh_of(fsdp=2, tensor=2), table)
    split = {name: spec for name, spec in found.items() if not name.startswith("params/")}
    assert split == {
        "opt/0/0/mu/a/kernel": ("fsdp", "tensor"),
        "opt/0/0/nu/a/kernel": ("fsdp", "tensor"),
        "opt/0/0/mu/kernel": ("fsdp",),  # not the spec of a/kernel, though its path ends alike
        "opt/0/0/nu/kernel": ("fsdp",),
        "opt/1/v/kernel": ("fsdp",),  # too small to be factored; the rows and columns of a/kernel are replicated
        "stats/teacher/a/kernel": ("fsdp", "tensor"),
        "stats/queue": ("fsdp",),
    }


def test_frozen_params_follow_the_rules_of_params():
    tree = state({"up/lora_a": (4, 2)}, stats={"frozen/up/kernel": (4, 8), "frozen/stacked/up/kernel": (6, 4, 8)})
    found = specs(
        tree, mesh_of(fsdp=2, tensor=2), ((r"(^|/)up/kernel$", P("fsdp", "tensor")), (r"^params/up", P("fsdp")))
    )
    assert found == {
        "params/up/lora_a": ("fsdp",), "stats/frozen/up/kernel": ("fsdp", "tensor"),
        "stats/frozen/stacked/up/kernel": (None, "fsdp", "tensor"),
    }  # fmt: skip


def test_stacked_layers_have_an_axis_more_in_front():
    tree = state({"blocks/stacked/kernel": (6, 4, 8), "blocks/stacked/bias": (6, 8)}, optax.sgd(0.1, momentum=0.9))
    table = ((r"kernel$", P(None, "tensor")),)
    found = specs(tree, mesh_of(data=2, tensor=2), table)
    assert found["params/blocks/stacked/kernel"] == (None, None, "tensor") and "params/blocks/stacked/bias" not in found
    found = specs(tree, mesh_of(pipeline=2, tensor=2), table)
    assert found["params/blocks/stacked/kernel"] == ("pipeline", None, "tensor")
    assert found["params/blocks/stacked/bias"] == ("pipeline",) == found["opt/0/trace/blocks/stacked/bias"]
    with pytest.raises(UserError, match=r"splits dimension 0 of params/blocks/stacked/bias \[6, 8\] into 4"):
        specs(tree, mesh_of(pipeline=4), ())


def test_fsdp_splits_the_largest_dimension_that_divides():
    tactic, mesh = fsdp(min_size=16), mesh_of(fsdp=4)
    assert tuple(tactic("", (8, 16), mesh)) == (None, "fsdp") == tuple(tactic("", (8, 8), mesh))
    assert tuple(tactic("", (8, 17), mesh)) == ("fsdp", None)
    assert not any(tactic("", (7, 17), mesh)) and not any(tactic("", (3, 4), mesh))
    assert tuple(fsdp(None, "tensor", min_size=0)("", (8, 16), mesh)) == ("fsdp", "tensor")
    assert not any(fsdp(min_size=0)("", (8, 16), mesh_of(data=4)))
    assert any(fsdp()("", (128, 128), mesh)) and not any(fsdp()("", (128, 127 - 3), mesh))


def _tactic(path, shape, mesh):
    return P("fdsp")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ((r"kernl$", P("fsdp")), r"rules match no path: \['kernl\$'\]; the first paths are .*params/a/kernel"),
        ((r"^opt/", P("fsdp")), "match no path"),
        ((r"kernel$", P("fdsp")), r"unknown mesh axis in the rule 'kernel\$' 'fdsp'. Did you mean 'fsdp'"),
        ((r"kernel$", _tactic), "Did you mean 'fsdp'"),
        ((r"kernel$", P(None, None, "fsdp")), r"params/a/kernel \[8, 6\] the spec .* expected at most 2 dimensions"),
        ((r"kernel$", P(None, "fsdp")), r"dimension 1 of params/a/kernel \[8, 6\] into 4 parts .* does not divide 6"),
        ((r"kernel$", P("fsdp", "fsdp")), "uses 'fsdp' twice"),
        ((r"kernel$", "fsdp"), "has 'fsdp'; expected a PartitionSpec or a tactic"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule, message):
    with pytest.raises(UserError, match=message):
        specs(state({"a/kernel": (8, 6)}), mesh_of(fsdp=4), (rule,))


def test_the_table_says_what_lives_where():
    params = {f"blocks/{i}/kernel": (256, 256) for i in range(2)} | {"bias": (256,)}
    tree = state(params, optax.adam(1e-3), {"queue": (64, 4)})
    mesh = mesh_of(fsdp=4)
    layout = shardings(tree, mesh, ((r"kernel$", P("fsdp")),))
    text = table(jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, layout))
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["params/bias", "float32[256]", "replicated", "1", "KiB"]
    assert lines[1] == ["params/blocks/*/kernel", "float32[256,", "256]", "(fsdp)", "2", "x", "128", "KiB"]
    assert lines[2][:1] == ["stats/queue"] and len(lines) == 4  # Adam's moments live where the params do
    assert "on each of 4 devices: params 129 KiB of 513 KiB" in text
    assert "opt 258 KiB of 1.002 MiB" in text


def test_a_layer_that_has_no_equal_is_listed_by_its_name():
    tree = state({"layers/0/bias": (64,), "layers/1/bias": (64,), "layers/2/bias": (10,)}, optax.sgd(1.0), {})
    layout = shardings(tree, mesh_of(fsdp=4), ())
    text = table(jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, layout))
    assert [line.split()[:2] for line in text.splitlines()[:2]] == [
        ["params/layers/*/bias", "float32[64]"],
        ["params/layers/2/bias", "float32[10]"],
    ]


def test_an_experiment_is_sharded_and_says_so():
    made = toys.experiment(
        init=lambda key: ({"w": jnp.ones(3), "b": jnp.zeros(()), "wide": jnp.zeros((4, 8))}, {}),
        mesh={"fsdp": -1}, rules=((r"wide", P("fsdp")),),
    )  # fmt: skip
    built = build(made, devices=FOUR)
    now, _ = built.step(built.fresh(), built.fresh_sums(), place(built.source(0)(0), built.mesh))
    assert now.params["wide"].addressable_shards[0].data.shape == (1, 8)
    assert now.opt[0].mu["wide"].addressable_shards[0].data.shape == (1, 8)
    single = build(toys.experiment(), devices=ONE)
    assert "params/wide" in built.table and single.table == ""
    assert "replicated" not in table(single.abstract) and "total: params " in table(single.abstract)


def test_batches_are_split_or_padded_or_refused():
    mesh = mesh_of(data=2, fsdp=2)
    batch = {"x": np.arange(6.0).reshape(6, 1)}
    with pytest.raises(UserError, match="6 examples cannot be split over 4 devices.*use 4 or 8.*into 2 parts"):
        place(batch, mesh)
    assert padded(batch, mesh) is batch  # without a mask nothing would tell padding from records
    whole = padded({**batch, "mask": np.ones(6, np.float32)}, mesh)
    assert whole["x"].ravel().tolist() == [0, 1, 2, 3, 4, 5, 0, 0] and whole["mask"].tolist() == [1] * 6 + [0] * 2
    placed = place({"x": np.zeros((3, 8, 2))}, mesh, axis=1)["x"]
    assert {s.data.shape for s in placed.addressable_shards} == {(3, 2, 2)}
    assert len({str(s.index) for s in placed.addressable_shards}) == 4


def test_constraints_name_what_the_mesh_has():
    mesh = mesh_of(data=2, tensor=2)
    seen = {}

    def function(x):
        seen["ways"] = num_shards("data"), num_shards("data", "tensor"), num_shards("context")
        y = constrain(x, ("data", "fsdp"), "tensor")
        jax.shard_map(lambda z: seen.update(inside=num_shards("data")), in_specs=P("data"), out_specs=None)(x)
        return constrain(y[:, :3], None, "tensor")  # three columns do not divide: left to the partitioner

    x = np.arange(16.0, dtype=np.float32).reshape(4, 4)
    text = jax.jit(under(mesh, function), out_shardings=None).lower(x).as_text()
    assert seen == {"ways": (2, 4, 1), "inside": 1}
    assert text.count("sharding_constraint") == 2 and '{"data"}, {"tensor"}' in text
    assert text.count('{"tensor"}') == 1
    assert num_shards("data") == 1 and constrain(x, "data") is x


@pytest.mark.parametrize("experts", [False, True])
def test_the_rules_of_the_gpt_leave_nothing_large_whole(experts):
    from tests.sharded import EXPERTS, experiment

    axes = {"expert": 2, "tensor": 2} if experts else {"fsdp": 2, "tensor": 2}
    made = experiment(axes, EXPERTS if experts else {})
    tree = state({path_name(p): x.shape for p, x in jax.tree.leaves_with_path(jax.eval_shape(made.init, 0)[0])})
    found = specs(tree, mesh_of(**axes), rules(experts=experts, min_size=0))
    blocks = {name[7:]: spec for name, spec in found.items() if name.startswith("params/blocks/0/")}
    first = ("expert",) if experts else ()
    middle = None if experts else "fsdp"
    assert blocks["blocks/0/feed_forward/up/kernel"] == (*first, middle, "tensor")
    assert blocks["blocks/0/feed_forward/down/kernel"][: len(first) + 1] == (*first, "tensor")
    assert blocks["blocks/0/attention/q/bias"] == ("tensor",)
    assert blocks["blocks/0/attention/out/kernel"][0] == "tensor"


def test_the_vocabulary_is_split_if_the_axis_divides_it():
    def spec(vocabulary, **axes):
        found = specs(state({"embed/embedding": (vocabulary, 16)}), mesh_of(**axes), rules(min_size=0)[:1])
        return found.get("params/embed/embedding")

    assert spec(24, data=2, tensor=2) == ("tensor",) and spec(24, fsdp=2, tensor=2) == ("tensor", "fsdp")
    assert spec(23, data=2, tensor=2) is None and spec(23, fsdp=2, tensor=2) == (None, "fsdp")
    assert spec(24, fsdp=4) == ("fsdp", None)  # as any other array


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip of a TPU v5p slice of 4 x 4 x 4."""

    id: int
    coords: tuple[int, int, int]
    platform = "tpu"
    device_kind = "TPU v5"
    core_on_chip = slice_index = process_index = 0


def test_a_mesh_may_share_a_dimension_of_the_torus_between_two_axes():
    chips = [Chip(i, (i % 4, i // 4 % 4, i // 16)) for i in range(64)]
    mesh = make_mesh({"data": 8, "tensor": 8}, devices=chips)
    assert set(mesh.devices.flat) == set(chips)
    for group in mesh.devices.reshape(8, 8):  # eight chips that exchange most are neighbours: a part of one plane
        low, high = (fold([chip.coords for chip in group], axis=0) for fold in (np.min, np.max))
        assert np.prod(high - low + 1) == 8


FAST = ("data fsdp tensor", "expert pipeline")


def run_cases(folder, names):
    out = folder / "found.json"
    # Threads enough that devices whose collectives come in another order do not wait for each other for ever.
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "NPROC": "32"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.sharded", out, *names], env=env, cwd=Path(__file__).parents[2], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    # XLA's word for: no way was found from one sharding to the next but to have all on every device.
    assert "rematerialization" not in done.stdout, done.stdout
    return json.loads(out.read_text())


@pytest.fixture(scope="session")
def fast(tmp_path_factory):
    return run_cases(tmp_path_factory.mktemp("fast"), FAST)


@pytest.fixture(scope="session")
def slow(tmp_path_factory):
    return run_cases(tmp_path_factory.mktemp("slow"), [name for name in CASES if name not in FAST])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES]
)  # fmt: skip
def test_eight_devices_equal_one(name, request):
    found = request.getfixturevalue("fast" if name in FAST else "slow")[name]
    for here, alone in zip(found["losses"], found["alone"], strict=True):
        assert here == pytest.approx(alone, rel=1e-5)
    assert found["apart"] < 1e-5
    assert found["losses"][2]["loss"] < found["losses"][0]["loss"]  # it learns: what is compared has moved
    assert found["losses"][3]["accuracy"] >= 0  # of an evaluation
    mesh = CASES[name][0]
    collectives = {kind for kind, count in found["collectives"].items() if count}
    assert "all-reduce" in collectives
    if "pipeline" in mesh or "ring" in name:
        assert "collective-permute" in collectives
    if name == "data":
        assert collectives == {"all-reduce"} and found["shares"] == {"params": 1, "opt": 1}
    else:
        # Every device holds its part: of the axes that split params, the product; small arrays are whole.
        parts = np.prod([mesh.get(axis, 1) for axis in ("pipeline", "fsdp", "tensor", "expert")])
        assert 1 / parts <= found["shares"]["params"] < 1 / parts + 0.3
        assert found["shares"]["opt"] == pytest.approx(found["shares"]["params"], abs=0.01)
    if "fsdp" in mesh or name == "context":
        assert "all-gather" in collectives
    # Ring attention never holds the scores of a whole row; the others do.
    assert bool(found["scores"]) != ("context" in mesh)
