"""Running totals of metric states: exact over any number of batches, and packed in one array for the train step."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Total(NamedTuple):
    """A running total of metric states, in twice the digits of f32.

    `sum` is the total as f32 rounds it, and `rest` the difference to the exact total; both are trees of metric states.
    A plain f32 sum would drop a part of every batch, and a count would stop at 2 ** 24.
    """

    sum: Any
    rest: Any

    @classmethod
    def zero(cls, states):
        """Return the empty total of states with these shapes. A float of fewer than 32 bits is summed in f32."""

        def zeros(x):
            floating = jnp.issubdtype(x.dtype, jnp.floating)
            return np.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32) if floating else x.dtype)

        return cls(*(jax.tree.map(zeros, states) for _ in cls._fields))

    def exact(self):
        """Return the total in f64, which holds both of its parts. The arrays must be on the host."""
        return jax.tree.map(functools.partial(np.add, dtype=np.float64), self.sum, self.rest)

    def plus(self, states):
        """Return the total that also contains `states`."""
        sums, tree = jax.tree.flatten(self.sum)
        terms = zip(sums, tree.flatten_up_to(self.rest), tree.flatten_up_to(states), strict=True)
        pairs = [_add(*each) for each in terms]
        return Total(*(tree.unflatten([pair[part] for pair in pairs]) for part in (0, 1)))


def _add(total, rest, x):
    """Add x to the pair (total, rest), by the exact sum of two floats (Knuth, TAOCP 2, section 4.2.2, theorem B)."""
    rounded = total + x
    added = rounded - total
    rest = rest + (total - (rounded - added)) + (x - added)
    new = rounded + rest
    finite = jnp.isfinite(new)  # of inf or NaN there is no rest
    return jnp.where(finite, new, rounded), jnp.where(finite, rest - (new - rounded), 0)


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
    """The Total of an interval, and the first step with a non-finite loss (or -1), packed in one array.

    Every argument and result array of a step costs the host microseconds, and metrics would be many small arrays.
    `bits` is int32 [N], and `form` holds the tree, the shapes and the dtypes. The array is of integers because a device
    may change the bits of a float (rounding, NaN), but never those of an integer.
    """

    bits: Any
    form: Any

    @classmethod
    def of(cls, total, bad):
        """Pack a Total and the first step with a non-finite loss (-1 if there is none)."""
        leaves, tree = jax.tree.flatten((total.sum, bad, total.rest))
        leaves = [jnp.asarray(x) for x in leaves]
        flat = [x.astype(_packed_dtype(x.dtype)).reshape(-1).view(jnp.int32) for x in leaves]
        return cls(jnp.concatenate(flat), Form.of(tree, tuple((x.shape, x.dtype) for x in leaves)))

    def fetched(self):
        """Return the sums on the host. `jax.device_get` would take three times as long."""
        return dataclasses.replace(self, bits=np.asarray(self.bits))

    @property
    def total(self):
        """Return the Total."""
        sums, _, rest = self.parts
        return Total(sums, rest)

    @property
    def bad(self):
        """Return the first step with a non-finite loss, or -1."""
        return self.parts[1]

    @property
    def parts(self):
        """Return the unpacked arrays: (sums, first step with a non-finite loss, rests of the sums)."""
        leaves, start = [], 0
        for shape, dtype in self.form.leaves:
            packed = _packed_dtype(dtype)
            end = start + math.prod(shape) * packed.itemsize // 4
            leaves.append(self.bits[start:end].view(packed).astype(dtype).reshape(shape))
            start = end
        return self.form.tree.unflatten(leaves)


def _packed_dtype(dtype):
    """Return the dtype, of at least 4 bytes, that represents every value of `dtype` exactly."""
    if dtype.itemsize >= 4:
        return dtype
    return jnp.dtype(jnp.float32 if jnp.issubdtype(dtype, jnp.floating) else jnp.int32)
