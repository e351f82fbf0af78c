"""Fine-tuning of loaded weights on four devices against one, and the placement of params."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from research.core import gradient
from research.data import arrays, batches
from research.distributed.sharding import make_mesh, place, shardings
from research.experiment import Experiment, build
from research.gradients.accumulate import accumulate
from research.layers.stack import Stack
from research.model import from_nnx
from research.models import llama as models
from research.models.llama import LLaMA, rules
from research.models.t5 import T5
from research.objectives.language import language
from research.tree import path_name
from research.weights import llama
from research.weights.layout import NOTHING
from research.weights.load import weights
from research.wrappers.lora import lora
from research.wrappers.mixed_precision import mixed_precision
from tests.weights.disk import Case

FOUR = jax.devices()[:4]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case("transformers_decoders", tmp_path_factory.mktemp("case"), part="qwen2/")


@pytest.fixture(scope="module")
def alone(case):
    """The losses and params on one device."""
    return finetuned(case, mesh={}, devices=FOUR[:1])[:2]


def finetuned(case, *, mesh, devices, stack=None, dtype=None, parts=1, wrap=lambda model: model, fresh=NOTHING):
    """The losses and params of three steps, from the stored weights; those that match `fresh` are not stored."""
    sizes = llama.arguments(case.config)
    model = from_nnx(lambda rngs: LLaMA(**sizes, stack=stack, rngs=rngs))
    model = wrap(mixed_precision(model, dtype) if dtype else model)
    rng = np.random.default_rng(0)
    segments = np.repeat([[1] * 5 + [2] * 5 + [0] * 2], 8, 0)
    data = arrays(
        tokens=rng.integers(0, 37, (8, 12)), segments=segments, positions=np.repeat([[*range(5), *range(7)]], 8, 0)
    )
    loss = language(model)
    experiment = Experiment(
        init=model.init, apply=model.apply, loss=loss, optimizer=optax.adam(0.05, eps=0.1), steps=3,
        source=batches(data, 8, shuffle=False), mesh=mesh, grad_fn=accumulate(gradient(loss), parts),
        rules=rules(tied=True, use_bias=True, min_size=0) if len(devices) > 1 else (),
        init_from=weights(case.folder, llama.transformers(**sizes), skip=fresh, tell=lambda text: None),
    )  # fmt: skip
    built = build(experiment, devices=devices)
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    values = []
    for step in range(3):
        state, sums = built.step(state, sums, place(batch_at(step), built.mesh))
        values.append(float(sums.total.sum["loss"].value()))
    params = {path_name(path): np.asarray(x) for path, x in jax.tree.leaves_with_path(state.params)}
    return values, params, state


@pytest.mark.parametrize(("dtype", "atol"), [(None, 2e-5), (jnp.bfloat16, 0.02)])
def test_four_devices_fine_tune_as_one(case, alone, dtype, atol):
    (values, params), mesh = alone, {"fsdp": 2, "tensor": 2}
    found, stacked, state = finetuned(case, mesh=mesh, devices=FOUR, stack=Stack, dtype=dtype, parts=2)
    np.testing.assert_allclose(found, values, atol=atol)
    assert values[0] - values[-1] > 0.05
    for name, x in stacked.items():
        layers = list(x) if "stacked" in name else [x]
        for i, y in enumerate(layers):
            np.testing.assert_allclose(y, params[name.replace("stacked", str(i))], atol=10 * atol)
    q = state.params["blocks"]["stacked"]["attention"]["q"]["kernel"]
    assert q.sharding.spec == P(None, "fsdp", "tensor") and q.addressable_shards[0].data.shape == (2, 12, 12)


@pytest.mark.parametrize(("dtype", "atol"), [(None, 2e-5), (jnp.bfloat16, 0.02)])
def test_four_devices_tune_factors_as_one(case, dtype, atol):
    """LoRA of loaded weights: split over FSDP and tensor, in a Stack, accumulated, and in 16 bits."""
    wrap = lambda model: lora(model, "(attention/[qv]|feed_forward/down)/kernel$", rank=4)
    options = dict(wrap=wrap, fresh="lora_[ab]$", stack=Stack)
    values, params, alone = finetuned(case, mesh={}, devices=FOUR[:1], **options)
    mesh = {"fsdp": 2, "tensor": 2}
    found, split, state = finetuned(case, mesh=mesh, devices=FOUR, dtype=dtype, parts=2, **options)
    np.testing.assert_allclose(found, values, atol=atol)
    assert values[0] - values[-1] > 0.05
    assert len(split) == 6 and all("lora_" in name for name in split)
    for name, x in split.items():
        np.testing.assert_allclose(x, params[name], atol=10 * atol)
    frozen = state.stats["frozen"]["blocks"]["stacked"]["attention"]["q"]["kernel"]
    assert frozen.sharding.spec == P(None, "fsdp", "tensor")
    assert all("fsdp" in x.sharding.spec for x in jax.tree.leaves(state.params))
    jax.tree.map(np.testing.assert_array_equal, state.stats, alone.stats)  # no step moves a frozen array


@pytest.mark.parametrize("build_model", [LLaMA, T5])
def test_every_matrix_is_split_over_both_axes(build_model):
    sizes = models.LLAMA32_1B | {"depth": 1, "tied": False} if build_model is LLaMA else {"depth": 1, "tied": False}
    model = from_nnx(lambda rngs: build_model(**sizes, rngs=rngs))
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    mesh = make_mesh({"fsdp": 2, "tensor": 2}, devices=FOUR)
    placed = shardings({"params": params}, mesh, rules())
    for path, sharding in jax.tree.leaves_with_path(placed):
        name = path_name(path)
        if name.endswith("kernel") or name.endswith("params/embed/embedding"):
            assert sorted(filter(None, sharding.spec)) == ["fsdp", "tensor"], name
