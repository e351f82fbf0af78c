"""Starting from weights: strictness, types, devices, memory, and an experiment from beginning to end."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from research.core import Model
from research.data import arrays, batches
from research.distributed.sharding import fsdp
from research.errors import UserError
from research.experiment import Experiment, build
from research.model import init_together
from research.objectives.classify import classify
from research.weights.layout import Layout
from research.weights.load import weights
from research.wrappers.frozen import frozen
from tests.weights.disk import safetensors

RNG = np.random.default_rng(0)
LAYOUT = Layout(
    table={"body": "net.body", "head": "head"}, config={}, prefix="net.", ignored="counter",
    aliases={r"\.gamma$": ".weight"},
)  # fmt: skip
BODY, HEAD = RNG.normal(size=(8, 4)).astype(np.float32), RNG.normal(size=(3, 8)).astype(np.float32)
FILE = {"net.body.weight": BODY, "head.weight": HEAD}
LIKE = {"body": {"kernel": np.zeros((4, 8), np.float32)}, "head": {"kernel": np.zeros((8, 3), np.float32)}}


def start(tmp_path, file=None, like=None, layout=LAYOUT, **options):
    told = []
    safetensors(tmp_path / "model.safetensors", FILE if file is None else file)
    params, _ = weights(tmp_path, layout, tell=told.append, **options)(like or LIKE, {})
    return params, told[0]


def test_every_array_is_used_and_listed(tmp_path):
    params, told = start(tmp_path, {**FILE, "counter": np.zeros((), np.int64)})
    np.testing.assert_array_equal(params["body"]["kernel"], BODY.T)
    assert told.splitlines() == [
        "  loaded  body/kernel  <- net.body.weight  [4, 8]",
        "  loaded  head/kernel  <- head.weight  [8, 3]",
        "  unused  counter  (has no counterpart)",
    ]


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        ({**FILE, "extra.weight": HEAD}, {}, r'not used: extra.weight. If they .* add them to drop=: r"\^extra\\b"'),
        ({"net.body.weight": BODY}, {}, r'head/kernel needs head.weight.*, add them to skip=: r"\^head\\b"'),
        ({**FILE, "head.weight": HEAD.T.copy()}, {}, r"head.weight has the shape \[8, 3\]; head/kernel \[8, 3\] needs"),
        ({**FILE, "head.weight": HEAD.astype(np.float16)}, {}, "type float16; head/kernel has float32. Convert it"),
        ({**FILE, "head.weight": HEAD.astype(np.int64)}, {"cast": True}, "type int64; head/kernel has float32.$"),
        ({**FILE, "head.weight": HEAD * np.float32("nan")}, {}, "head.weight has values that are NaN or infinite"),
        ({**FILE, "head.weight": np.full((3, 8), 1e300)}, {"cast": True}, "head.weight has values that are NaN or inf"),
        (FILE, {"skip": "haed"}, "skip='haed' matches no array. Available: body/kernel, head/kernel"),
        (FILE, {"drop": "haed"}, "drop='haed' matches no array. Available: head.weight, net.body.weight"),
        ({**FILE, "module.head.weight": HEAD}, {}, "two arrays of the checkpoint are called head.weight; the second"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_and_nothing_is_changed(tmp_path, file, options, words):
    like = jax.tree.map(np.copy, LIKE)
    with np.errstate(over="ignore"), pytest.raises(UserError, match=words):
        start(tmp_path, file, like, **options)
    jax.tree.map(np.testing.assert_array_equal, like, LIKE)


def test_skipped_and_dropped_arrays_are_listed(tmp_path):
    like = {**LIKE, "head": {"kernel": jax.ShapeDtypeStruct((8, 7), np.float32)}}
    params, told = start(tmp_path, {**FILE, "extra": HEAD}, like, skip="^head/", drop="^extra")
    assert params["head"] == like["head"]
    assert "  fresh   head/kernel  [8, 7]\n" in told and "extra  (dropped)" in told
    assert "unused  head.weight  (skipped)" in told


def test_old_names_and_wrappers(tmp_path):
    file = {"_orig_mod.module.net.body.gamma": BODY, "_orig_mod.module.head.weight": HEAD}
    np.testing.assert_array_equal(start(tmp_path, file)[0]["body"]["kernel"], BODY.T)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.float64])
def test_other_types_are_converted_on_request(tmp_path, dtype):
    file = {name: x.astype(dtype) for name, x in FILE.items()}
    if dtype is np.float64:
        params, _ = start(tmp_path, file, cast=True)
    else:
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, np.float32), LIKE)
        params, _ = start(tmp_path, file, like, cast=True)
    assert params["head"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(params["head"]["kernel"], HEAD.T.astype(dtype).astype(np.float32))


def test_a_part_of_a_larger_network(tmp_path):
    params, _ = start(tmp_path, like={"encoder": LIKE, "other": {"kernel": np.ones(2)}}, inside="encoder")
    np.testing.assert_array_equal(params["encoder"]["head"]["kernel"], HEAD.T)
    assert params["other"]["kernel"].tolist() == [1, 1]


# In an experiment.

DATA = arrays(image=RNG.normal(size=(16, 4)).astype(np.float32), label=np.arange(16) % 3)


def model(*, classes=3, on_head=None):
    """A network whose initialiser fails if it runs, except for the head with `on_head` set."""

    def forbidden(shape):
        def fail():
            raise AssertionError("an initialiser ran")

        return jax.pure_callback(fail, jax.ShapeDtypeStruct(shape, jnp.float32))

    def init(key):
        head = jnp.full((8, classes), on_head) if on_head else forbidden((8, classes))
        return {"body": {"kernel": forbidden((4, 8))}, "head": {"kernel": head}}, {}

    def apply(params, stats, x, key=None, train=False):
        return jnp.tanh(x @ params["body"]["kernel"]) @ params["head"]["kernel"], {}

    return Model(init, apply)


def experiment(made, init_from, **options):
    return Experiment(
        init=made.init, apply=made.apply, loss=classify(made), optimizer=optax.adam(0.1), source=batches(DATA, 8),
        steps=2, init_from=init_from, **options,
    )  # fmt: skip


def test_initialisers_of_loaded_arrays_are_neither_compiled_nor_run(tmp_path):
    safetensors(tmp_path / "model.safetensors", FILE)
    loader = weights(tmp_path, LAYOUT, tell=lambda text: None)
    state = build(experiment(model(), loader)).fresh()
    np.testing.assert_array_equal(state.params["head"]["kernel"], HEAD.T)
    loader = weights(tmp_path, LAYOUT, skip="^head/", tell=lambda text: None)
    state = build(experiment(model(classes=5, on_head=7.0), loader)).fresh()
    assert np.unique(state.params["head"]["kernel"]) == [7] and state.params["head"]["kernel"].shape == (8, 5)
    np.testing.assert_array_equal(state.params["body"]["kernel"], BODY.T)


def test_an_init_from_that_changes_a_shape_is_an_error():
    wrong = lambda params, stats: ({**params, "head": {"kernel": jnp.zeros((8, 4))}}, stats)
    with pytest.raises(UserError, match=r"but 0/head/kernel was float32\[8,3\] and is float32\[8,4\]"):
        build(experiment(model(), wrong)).fresh()


def test_each_device_gets_its_part(tmp_path):
    safetensors(tmp_path / "model.safetensors", FILE)
    loader = weights(tmp_path, LAYOUT, tell=lambda text: None)
    built = build(experiment(model(), loader, mesh={"fsdp": -1}, rules=((r".", fsdp(min_size=1)),)))
    given = loader(built.abstract.params, {})[0]["body"]["kernel"]
    assert {shard.data.shape for shard in given.addressable_shards} == {(4, 2)} and len(jax.devices()) == 4
    np.testing.assert_array_equal(built.fresh().params["body"]["kernel"], BODY.T)


def test_frozen_arrays_and_several_networks(tmp_path):
    safetensors(tmp_path / "model.safetensors", FILE)
    loader = weights(tmp_path, LAYOUT, tell=lambda text: None)
    state = build(experiment(frozen(model(), "^body"), loader)).fresh()
    np.testing.assert_array_equal(state.stats["frozen"]["body"]["kernel"], BODY.T)
    init = init_together(a=model(), b=Model(lambda key: ({"w": jnp.ones(2)}, {}), None))
    params, stats = jax.eval_shape(init, jax.random.key(0))
    params, _ = weights(tmp_path, LAYOUT, inside="a", tell=lambda text: None)(params, stats)
    np.testing.assert_array_equal(params["a"]["head"]["kernel"], HEAD.T)
    assert isinstance(params["b"]["w"], jax.ShapeDtypeStruct)


MEMORY = """
import re, sys
from pathlib import Path
import jax, numpy as np
from research.weights.layout import Layout
from research.weights.load import weights

def resident():  # of this process, with mapped files, in MiB
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

count, table = int(sys.argv[2]), {f"x{i}": f"x{i}" for i in range(int(sys.argv[2]))}
like = {f"x{i}": jax.ShapeDtypeStruct((512, 1024), np.float32) for i in range(count)}
layout = Layout(table=table, config={})
weights(sys.argv[1], layout, tell=lambda text: None, drop=r"x[1-9]")({"x0": like["x0"]}, {})  # what it needs once
before = resident()
params, _ = weights(sys.argv[1], layout, tell=lambda text: None)(like, {})
jax.block_until_ready(params)
print(resident() - before)
"""


def test_peak_memory_is_that_of_the_network_and_a_few_arrays(tmp_path):
    count = 64  # arrays of 2 MiB
    x = np.ones((512, 1024), np.float32)
    safetensors(tmp_path / "model.safetensors", {f"x{i}": x for i in range(count)})
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    arguments = [sys.executable, "-c", MEMORY, str(tmp_path), str(count)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert 2 * count * 0.9 < float(done.stdout) < 2 * count + 60  # a second copy would be 128 MiB
