"""The metric sums of the current interval, packed in one array that is passed from step to step.

Every argument and result array of a step costs the host microseconds, and metrics would be many small arrays.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp


class Form:
    """The tree structure of packed metrics, and the (shape, dtype) of each leaf. Get one with `Form.of`."""

    def __init__(self, tree, leaves):
        self.tree, self.leaves = tree, leaves

    @staticmethod
    @functools.cache
    def of(tree, leaves):
        """Return the unique Form with this tree and these leaves.

        Every dispatch compares the Forms of its arguments. For a unique object, that is a comparison of identity.
        """
        return Form(tree, leaves)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["bits"], meta_fields=["form"])
@dataclasses.dataclass(frozen=True)
class MetricSums:
    """Metric states, and the first step with a non-finite loss (or -1), packed in one array.

    `bits` is int32 [N], and `form` holds the tree, the shapes and the dtypes. The array is of integers because a device
    may change the bits of a float (rounding, NaN), but never those of an integer.
    """

    bits: Any
    form: Any

    @classmethod
    def of(cls, metrics, bad):
        """Pack metric states and the first step with a non-finite loss (-1 if there is none)."""
        leaves, tree = jax.tree.flatten((metrics, bad))
        leaves = [jnp.asarray(x) for x in leaves]
        flat = [x.astype(_packed_dtype(x.dtype)).reshape(-1).view(jnp.int32) for x in leaves]
        return cls(jnp.concatenate(flat), Form.of(tree, tuple((x.shape, x.dtype) for x in leaves)))

    @property
    def metrics(self):
        """Return {name: metric state}."""
        return self._unpack()[0]

    @property
    def bad(self):
        """Return the first step with a non-finite loss, or -1."""
        return self._unpack()[1]

    def _unpack(self):
        leaves, start = [], 0
        for shape, dtype in self.form.leaves:
            packed = _packed_dtype(dtype)
            end = start + jax.ShapeDtypeStruct(shape, packed).size * packed.itemsize // 4
            leaves.append(self.bits[start:end].view(packed).astype(dtype).reshape(shape))
            start = end
        return self.form.tree.unflatten(leaves)


def _packed_dtype(dtype):
    """Return the dtype, of at least 4 bytes, that represents every value of `dtype` exactly."""
    if dtype.itemsize >= 4:
        return dtype
    return jnp.dtype(jnp.float32 if jnp.issubdtype(dtype, jnp.floating) else jnp.int32)
