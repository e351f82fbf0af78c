"""Memory that XLA reports for a compiled step of training, ours beside the floor's. Nothing runs."""

from typing import NamedTuple

import jax

from research.experiment import build
from tests.benchmarks import floor, ours, works


class Memory(NamedTuple):
    """Bytes at the peak of a step: inputs, outputs and temporaries; `aliased` are the inputs replaced in place."""

    peak: int
    aliased: int
    state: int


def of_ours(work: works.Work) -> Memory:
    """Of the step that the loop calls."""
    built = build(ours.experiment(work), devices=jax.devices()[:1])
    return _memory(built.step.on_leaves, jax.tree.leaves((built.abstract, built.abstract_sums)), work.batch)


def of_floor(work: works.Work) -> Memory:
    """Of the hand-written step."""
    compiled = jax.jit(lambda state, batch: floor.step(work, state, batch), donate_argnums=0)
    return _memory(compiled, jax.eval_shape(lambda: floor.start(work)), work.batch)


def _memory(compiled, donated, batch) -> Memory:
    found = compiled.lower(donated, batch).compile().memory_analysis()
    state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(donated))
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(kept + found.temp_size_in_bytes, found.alias_size_in_bytes, state)


def table(*, quick: bool = False) -> str:
    """The peaks of all training work as a table in Markdown."""
    head = "| step of | ours, MB | floor, MB | ratio |\n|---|--:|--:|--:|"
    lines = []
    for name in ("mlp",) if quick else works.TRAINING:
        work = works.work(name, quick=quick)
        mine, least = of_ours(work).peak, of_floor(work).peak
        lines.append(f"| {name} | {mine / 1e6:,.2f} | {least / 1e6:,.2f} | {mine / least:.3f} |")
    return "\n".join([head, *lines])
