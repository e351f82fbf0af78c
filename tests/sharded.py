"""Runs by tests/distributed/test_sharding.py on eight devices: a tiny GPT on every kind of mesh and on one device.

JAX_NUM_CPU_DEVICES=8 python -m tests.sharded OUT.json [CASE ...]
"""

import functools
import json
import re
import sys
import time
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.core import Eval
from research.data import arrays, batches, eval_batches
from research.distributed.sharding import place
from research.evaluate import evaluator
from research.experiment import Experiment, build
from research.layers.ring import ring_attention
from research.layers.stack import Stack
from research.metrics.language import measure_language
from research.model import from_nnx
from research.models.gpt import GPT, rules
from research.objectives.language import language
from research.tree import path_name
from tests.models.fresh import fresh

RNG = np.random.default_rng(0)
LENGTH, ROWS = 16, 8
# The last three tokens of a row are padding, and in one row more: the load of devices differs.
SEGMENTS = np.repeat([[1] * 8 + [2] * 5 + [0] * 3], 2 * ROWS, 0)
SEGMENTS[3, 5:] = 0
DATA = arrays(
    tokens=RNG.integers(0, 24, (2 * ROWS, LENGTH)), segments=SEGMENTS,
    positions=np.repeat([[*range(8), *range(5), 0, 0, 0]], 2 * ROWS, 0),
)  # fmt: skip
# Room for three tokens of four experts: some are passed by.
EXPERTS = {"experts": {"number": 4, "top": 2, "capacity": 0.75}}
RING = {"attend": ring_attention, "mask": None}
STACK = {"stack": Stack}
PARTS = {"stack": functools.partial(Stack, microbatches=4), "depth": 4}
# name: (mesh, options of the model, those of the same on one device)
CASES = {
    "data": ({"data": 8}, {}, {}),
    "fsdp": ({"fsdp": 8}, {}, {}),
    "tensor": ({"data": 2, "tensor": 4}, {}, {}),
    "data fsdp tensor": ({"data": 2, "fsdp": 2, "tensor": 2}, {}, {}),
    "context": ({"data": 2, "context": 4}, {}, {}),
    "ring": ({"data": 2, "context": 4}, RING, {}),
    "ring tensor": ({"fsdp": 2, "context": 2, "tensor": 2}, RING, {}),
    "pipeline": ({"pipeline": 4, "data": 2}, PARTS, {"depth": 4}),
    "pipeline fsdp tensor": ({"pipeline": 2, "fsdp": 2, "tensor": 2}, STACK, {}),
    "pipeline context": ({"pipeline": 2, "data": 2, "context": 2}, STACK, {}),
    "expert": ({"data": 2, "expert": 4}, EXPERTS, EXPERTS),
    "expert fsdp tensor": ({"expert": 2, "fsdp": 2, "tensor": 2}, EXPERTS, EXPERTS),
    "expert pipeline": ({"expert": 2, "pipeline": 2, "data": 2}, {**EXPERTS, **STACK}, EXPERTS),
}
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


def experiment(mesh, options, *, split=True) -> Experiment:
    """A GPT of about 8,000 params."""
    network = dict(vocabulary=24, length=LENGTH, width=16, depth=2, heads=4)
    model = from_nnx(lambda rngs: GPT(**{**network, **options}, rngs=rngs))

    def init(key):
        """The same numbers, whether the layers are a list or stacked."""
        params, stats = fresh(from_nnx(lambda rngs: GPT(**{**network, **options, "stack": None}, rngs=rngs)))
        if "stack" in options:
            layers = [params["blocks"][str(i)] for i in range(len(params["blocks"]))]
            params["blocks"] = {"stacked": jax.tree.map(lambda *x: jnp.stack(x), *layers)}
        return params, stats

    # The moments of Adam, but none of its signs of what is zero up to rounding, such as the gradient of k's bias.
    return Experiment(
        init=init, apply=model.apply, loss=language(model), optimizer=optax.adam(0.05, eps=0.1),
        source=batches(DATA, ROWS, shuffle=False), steps=3, mesh=mesh,
        rules=rules(experts="experts" in options, min_size=0) if split else (),
        evals={"test": Eval(eval_batches(DATA, 7), measure_language())},
    )  # fmt: skip


def trained(mesh, options, *, devices, split=True):
    """What three steps give: the metrics, those of an evaluation too; the State, the program, the built experiment."""
    built = build(experiment(mesh, options, split=split), devices=devices)
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    batch = place(batch_at(0), built.mesh)
    program = built.step.on_leaves.lower(jax.tree.leaves((state, sums)), batch).compile()
    losses = []
    for step in range(3):
        state, sums = built.step._replace(on_leaves=program)(state, sums, place(batch_at(step), built.mesh))
        losses.append({name: float(metric.value()) for name, metric in sums.total.sum.items()})
    # Seven rows do not divide over the devices: one more is put in, which does not count.
    evaluate = evaluator(built.experiment.evals["test"], built.experiment.apply, mesh=built.mesh)
    losses.append(dict(evaluate(state).numbers))
    return losses, state, program.as_text(), built


def by_name(params):
    """Params as numpy arrays, those of stacked layers each by itself: as those of a list of layers."""
    found = {}
    for path, x in jax.tree.leaves_with_path(params):
        name, x = path_name(path), np.asarray(x)
        layers = [(name.replace("stacked", str(i)), y) for i, y in enumerate(x)] if "stacked" in name else [(name, x)]
        found.update(layers)
    return found


def shares(built, state):
    """{part: bytes of the fullest device / bytes in all}."""
    found = {}
    for part in ("params", "opt"):
        leaves = jax.tree.leaves(getattr(state, part))
        held = Counter()
        for x in leaves:
            for shard in x.addressable_shards:
                held[shard.device] += shard.data.nbytes
        found[part] = max(held.values()) / sum(x.nbytes for x in leaves)
    return found


def main(out, names):
    """Writes {case: what was found} as JSON."""
    alone, found = {}, {}
    for name in names or CASES:
        mesh, options, single = CASES[name]
        key = repr(single)
        if key not in alone:
            losses, state, *_ = trained({}, single, devices=jax.devices()[:1])
            alone[key] = losses, by_name(state.params)
        losses, state, text, built = trained(mesh, options, devices=jax.devices(), split=name != "data")
        params = by_name(state.params)
        assert params.keys() == alone[key][1].keys()
        found[name] = {
            "losses": losses,
            "alone": alone[key][0],
            "apart": max(float(np.abs(x - alone[key][1][k]).max()) for k, x in params.items()),
            "collectives": {kind: len(re.findall(rf" {kind}(?:-start)?\(", text)) for kind in COLLECTIVES},
            "gathered": re.findall(r"= (\S+?)(?:\{\S*)? all-gather\(", text),
            "scores": len(re.findall(rf"f32\[\d+,\d+,{LENGTH},{LENGTH}\]", text)),
            "shares": shares(built, state),
            "table": built.table,
        }
        print(name, found[name]["apart"], found[name]["collectives"], found[name]["shares"], flush=True)
        print(time.process_time(), flush=True)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
