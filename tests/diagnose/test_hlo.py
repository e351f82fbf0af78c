"""What a device executes: closed forms of FLOPs, memory traffic and collectives, alone and in a GPT on four devices."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from research.core import repeat
from research.data import generated
from research.diagnose.cost import plan
from research.diagnose.hlo import executed
from research.distributed.sharding import make_mesh, placement, under
from research.experiment import Experiment, build
from research.layers.stack import Stack
from research.model import from_nnx
from research.models.gpt import GPT, rules
from research.objectives.language import language
from tests.benchmarks.scale import Size

FOUR = jax.devices()[:4]
SIZE = Size(width=32, depth=2, heads=4, length=16, vocabulary=64)
ROWS = 8


def counted(function, *args, devices=1):
    return executed(jax.jit(function).lower(*args).compile().as_text(), devices=devices)


def test_products_and_convolutions_agree_with_xlas_own_count():
    a, b = jnp.ones((4, 5, 7)), jnp.ones((4, 7, 3))
    assert counted(jnp.matmul, a, b).flops == 2 * 4 * 5 * 7 * 3
    x, kernel = jnp.ones((4, 12, 12, 6)), jnp.ones((3, 3, 3, 8))
    for stride, padding in ((1, "VALID"), (2, "SAME"), (1, "SAME")):
        conv = functools.partial(
            jax.lax.conv_general_dilated, window_strides=(stride, stride), padding=padding, feature_group_count=2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        assert counted(conv, x, kernel).flops == jax.jit(conv).lower(x, kernel).compile().cost_analysis()["flops"]


def test_a_dilated_convolution_counts_no_inserted_zeros():
    """As the TPU writes a batched product of 2 x 16 matrices: [2048, 64] by [64, 2048]."""
    text = """
ENTRY %main (a: bf16[2,16,2048,64], b: bf16[2,16,2048,64]) -> f32[2,16,2048,2048] {
  %a = bf16[2,16,2048,64]{2,3,1,0:T(8,128)(2,1)S(1)} parameter(0)
  %b = bf16[2,16,2048,64]{2,3,1,0:T(8,128)(2,1)} parameter(1)
  ROOT %c = f32[2,16,2048,2048]{2,3,1,0:T(8,128)} convolution(%a, %b), window={WINDOW}, dim_labels=01bf_01oi->01bf
}"""
    found = executed(text.replace("WINDOW", "size=2x16 stride=1x15 lhs_dilate=2x16"), devices=1)
    assert found.flops == 2 * 2 * 16 * 2048 * 64 * 2048
    assert found.bytes == 2 * 16 * 2048 * (2 * 64 + 4 * 2048)  # the first operand is on the chip, not in main memory


def test_traffic_is_what_is_read_and_written():
    x = jnp.ones((256, 256))
    size = x.nbytes
    assert counted(lambda x: jnp.tanh(x) + 1, x).bytes == 2 * size
    assert counted(lambda x: x @ x.T, x).bytes >= 2 * size


def test_a_loop_counts_as_often_as_it_runs_and_reads_the_slices_of_its_layers():
    x, layers = jnp.ones((8, 128)), jnp.ones((6, 128, 128))
    looped = lambda x, w: repeat(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]
    found = counted(looped, x, layers)
    assert found.flops == 6 * 2 * 8 * 128 * 128
    assert layers.nbytes <= found.bytes <= 4 * layers.nbytes  # 6 times all layers would be more


def test_an_unrolled_loop_runs_less_often():
    """The TPU's compiler unrolls a loop by 2: its counter grows by 2, without a note of the number of iterations."""
    text = """
%body (p: (u32[], f32[8])) -> (u32[], f32[8]) {
  %p = (u32[], f32[8]) parameter(0)
  %i = u32[] get-tuple-element(%p), index=0
  %x = f32[8] get-tuple-element(%p), index=1
  %two = u32[] constant(2)
  %next = u32[] add(%i, %two)
  %sent = (f32[8], f32[8], u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %got = f32[8] collective-permute-done(%sent)
  ROOT %out = (u32[], f32[8]) tuple(%next, %got)
}

%condition (q: (u32[], f32[8])) -> pred[] {
  %q = (u32[], f32[8]) parameter(0)
  %j = u32[] get-tuple-element(%q), index=0
  %limit = u32[] constant(7)
  ROOT %less = pred[] compare(%j, %limit), direction=LT
}

ENTRY %main (start: (u32[], f32[8])) -> (u32[], f32[8]) {
  %start = (u32[], f32[8]) parameter(0)
  ROOT %loop = (u32[], f32[8]) while(%start), condition=%condition, body=%body
}"""
    assert executed(text, devices=2).transfers == {"collective-permute": (4, 4 * 32)}
    noted = text.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"5"}}')
    assert executed(noted, devices=2).transfers == {"collective-permute": (5, 5 * 32)}


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", 2),
        ("[2,4]<=[8]", 4),
        ("{}", 8),
        ("mesh['axis_0'=2,'axis_1'=1,'axis_2'=4], device_ids=([4,2]T(1,0)) {'axis_1','axis_2'}", 4),
    ],
)
def test_groups_of_devices(groups, size):
    text = f"""
ENTRY %main (a: f32[64]) -> f32[64] {{
  %a = f32[64] parameter(0)
  ROOT %r = f32[64] all-reduce(%a), replica_groups={groups}, to_apply=%add
}}"""
    assert executed(text, devices=8).transfers == {"all-reduce": (1, 2 * 256 * (size - 1) / size)}


def test_collectives_send_what_ring_algorithms_send():
    mesh = make_mesh({"data": 4}, devices=FOUR)
    x = jnp.ones((16, 32))  # 2,048 bytes, 512 on each device
    ring = [(0, 1), (1, 2), (2, 3), (3, 0)]
    operations = {
        "all-reduce": (lambda x: jax.lax.psum(x, "data"), P(), 2 * 512 * 3 / 4),
        "all-gather": (lambda x: jax.lax.all_gather(x, "data"), P("data"), 512 * 3),
        "reduce-scatter": (lambda x: jax.lax.psum_scatter(x, "data", tiled=True), P("data"), 512 * 3 / 4),
        "all-to-all": (lambda x: jax.lax.all_to_all(x, "data", 0, 0), P("data"), 512 * 3 / 4),
        "collective-permute": (lambda x: jax.lax.ppermute(x, "data", ring), P("data"), 512),
    }
    for kind, (function, out, sent) in operations.items():
        function = jax.shard_map(function, mesh=mesh, in_specs=P("data"), out_specs=out)
        assert counted(function, x, devices=4).transfers == {kind: (1, sent)}, kind


def gpt(mesh, *, stack=None) -> Experiment:
    model = from_nnx(lambda rngs: GPT(**SIZE._asdict(), stack=stack, rngs=rngs))
    ones = np.ones((ROWS, SIZE.length), np.int32)
    batch = {"tokens": ones, "segments": ones, "positions": ones}
    return Experiment(
        init=model.init, apply=model.apply, loss=language(model), optimizer=optax.sgd(0.1), steps=4, mesh=mesh,
        source=generated(lambda seed: lambda step: batch, ROWS), rules=rules(min_size=0),
    )  # fmt: skip


@functools.cache
def cost(stack=False, **mesh):
    return plan(build(gpt(mesh, stack=Stack if stack else None), devices=FOUR))


TOKENS = ROWS * SIZE.length
NUMBERS = 8  # sums of metrics
PARAMETERS = SIZE.depth * (12 * SIZE.width**2 + 13 * SIZE.width) + (SIZE.vocabulary + SIZE.length + 2) * SIZE.width
# Bytes that a device sends to reduce the gradients in f32. The table of tokens has two: as input and as output layer.
REDUCED = 2 * 3 / 4 * 4 * (PARAMETERS + SIZE.vocabulary * SIZE.width)


def test_data_parallel_replicas_reduce_all_gradients_once():
    found = cost(data=4)
    assert found.flops == SIZE.flops * TOKENS  # 6 N D, and attention
    assert 4 * found.executed.flops == found.flops
    assert set(found.executed.transfers) == {"all-reduce"}
    assert REDUCED <= found.executed.transfers["all-reduce"].bytes <= REDUCED + 2 * 3 / 4 * 4 * NUMBERS


def test_a_stack_counts_as_its_layers():
    found = cost(stack=True, data=4)
    assert found.flops == SIZE.flops * TOKENS == 4 * found.executed.flops
    assert REDUCED <= found.executed.transfers["all-reduce"].bytes <= REDUCED + 2 * 3 / 4 * 4 * NUMBERS


def test_fsdp_gathers_params_and_reduces_gradients():
    found = cost(fsdp=4)
    assert 4 * found.executed.flops == found.flops == SIZE.flops * TOKENS
    # A device sends each of its shards to 3 others, and again if the backward pass gathers anew. q, k, v and the hidden
    # units have biases that FSDP does not split.
    shards = PARAMETERS - SIZE.depth * 7 * SIZE.width
    assert 3 * shards <= found.executed.transfers["all-gather"].bytes <= 2 * 3 * shards
    assert REDUCED <= found.executed.transfers["all-reduce"].bytes <= REDUCED + 2 * 3 / 4 * 4 * NUMBERS


def test_tensor_parallel_blocks_reduce_twice_in_the_forward_pass():
    mesh = make_mesh({"tensor": 4}, devices=FOUR)
    built = build(gpt({"tensor": 4}), devices=FOUR)
    tokens = jax.ShapeDtypeStruct((ROWS, SIZE.length), jnp.int32, sharding=placement(mesh))
    forward = under(mesh, lambda params, x: built.experiment.apply(params, {}, x, x, x)[0])
    compiled = jax.jit(forward, out_shardings=NamedSharding(mesh, P())).lower(built.abstract.params, tokens).compile()
    number, sent = executed(compiled.as_text(), devices=4).transfers["all-reduce"]
    assert (number, sent) == (2 * SIZE.depth, 2 * SIZE.depth * 2 * 3 / 4 * 4 * TOKENS * SIZE.width)


def test_tensor_parallel_chips_hold_a_part_of_the_vocabulary():
    whole = plan(build(dataclasses.replace(gpt({"tensor": 4}), rules=rules(min_size=0)[1:]), devices=FOUR))
    split = cost(tensor=4)
    table = 4 * SIZE.vocabulary * SIZE.width  # bytes
    assert whole.bytes["params"] - split.bytes["params"] == table * 3 / 4
    assert split.bytes["total"] <= whole.bytes["total"] - table * 3 / 4
    built = build(gpt({"tensor": 4}), devices=FOUR)
    tokens = jax.ShapeDtypeStruct((ROWS, SIZE.length), jnp.int32, sharding=placement(built.mesh))
    batch = {name: tokens for name in ("tokens", "segments", "positions")}
    leaves = jax.tree.leaves((built.abstract, built.abstract_sums))
    text = built.step.on_leaves.lower(leaves, batch).compile().as_text()
    logits = rf"f32\[(?:{ROWS},{SIZE.length}|{TOKENS}),(\d+)\]"
    assert str(SIZE.vocabulary // 4) in re.findall(logits, text)
    assert str(SIZE.vocabulary) not in re.findall(logits, text)


def test_a_pipeline_computes_idle_ticks_and_permutes_activations():
    stages = 2
    made = gpt({"pipeline": stages, "data": 2}, stack=functools.partial(Stack, microbatches=4))
    found = plan(build(made, devices=FOUR))
    ticks = (4 + stages - 1) / 4
    head = 6 * SIZE.vocabulary * SIZE.width
    assert found.flops == TOKENS * ((SIZE.flops - head) * ticks + head)
    number, sent = found.executed.transfers["collective-permute"]
    micro = 4 * TOKENS * SIZE.width / 4 / 2  # of a microbatch, on each replica
    assert (number, sent) == (2 * 5, 2 * 5 * micro)


def test_memory_is_that_of_xlas_own_analysis():
    built = build(gpt({"fsdp": 4}), devices=FOUR)
    place = placement(built.mesh)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), built.source(0)(0))
    leaves = jax.tree.leaves((built.abstract, built.abstract_sums))
    memory = built.step.on_leaves.lower(leaves, batch).compile().memory_analysis()
    entire = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    assert cost(fsdp=4).bytes["total"] == entire + memory.temp_size_in_bytes
