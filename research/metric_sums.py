"""The sums of an interval that is not over, carried from step to step as one array.

Each array that a step takes and gives costs microseconds of the host's time, and metrics are many small ones.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp


class Form:
    """The tree, and (shape, type) of each leaf; the same object for the same form."""

    def __init__(self, tree, leaves):
        self.tree, self.leaves = tree, leaves

    @staticmethod
    @functools.cache
    def of(tree, leaves):
        """The one object of that form. Every dispatch compares forms, and comparing objects costs it nothing."""
        return Form(tree, leaves)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["bits"], meta_fields=["form"])
@dataclasses.dataclass(frozen=True)
class MetricSums:
    """Metric states and the first step whose loss was not finite, -1 where all were: as the `bits` of int32 [N], with
    their tree, shapes and types in `form`. Integers, since no device takes the bits of one for a number to round.
    """

    bits: Any
    form: Any

    @classmethod
    def of(cls, metrics, bad):
        """The two as one."""
        leaves, tree = jax.tree.flatten((metrics, bad))
        leaves = [jnp.asarray(x) for x in leaves]
        flat = [x.astype(_carried(x.dtype)).reshape(-1).view(jnp.int32) for x in leaves]
        return cls(jnp.concatenate(flat), Form.of(tree, tuple((x.shape, x.dtype) for x in leaves)))

    @property
    def metrics(self):
        """{name: metric state}."""
        return self._parts()[0]

    @property
    def bad(self):
        """The first step whose loss was not finite, or -1."""
        return self._parts()[1]

    def _parts(self):
        leaves, at = [], 0
        for shape, dtype in self.form.leaves:
            wide = _carried(dtype)
            end = at + jax.ShapeDtypeStruct(shape, wide).size * wide.itemsize // 4
            leaves.append(self.bits[at:end].view(wide).astype(dtype).reshape(shape))
            at = end
        return self.form.tree.unflatten(leaves)


def _carried(dtype):
    """The type in which numbers of `dtype` are carried, exactly: of 4 bytes or more."""
    if dtype.itemsize >= 4:
        return dtype
    return jnp.dtype(jnp.float32 if jnp.issubdtype(dtype, jnp.floating) else jnp.int32)
