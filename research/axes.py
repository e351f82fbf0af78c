"""Array types for signatures: the dtypes of jaxtyping, and a glossary of the axis names in this codebase.

    def cross_entropy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:

An axis name has the same size in every argument and result of a signature. `*name` stands for any number of axes, `_`
for one unnamed axis and `...` for any number of unnamed axes. A number or an expression (`4*channels`) is a fixed size.
A shape that is also a valid Python expression, such as a single name, starts with a space (`" batch"`); without it,
linters report an undefined name. Annotations are not evaluated at run time (`from __future__ import annotations`) and
have no cost. The tests check them at every call.

    batch                    examples; `*batch` if a function accepts any number of leading axes
    classes                  classes of a classifier
    entries                  terms of a sparse record; `texts` for the texts that are searched
    height width channels    axes of an image, in this order (NHWC)
    time                     positions of a token sequence, or steps of a rollout; `keys` if the keys differ in length
    memory_time              positions of a second sequence, to which the first attends; `memory_features` its features
    vocabulary virtual       distinct tokens, and those of a prompt
    instances                members of a bag, in multiple-instance learning
    features                 size of the vector of an example or a position; `outputs` for the result of a layer
    rank bottleneck          inner sizes of a low-rank update, and of an adapter
    heads head               attention heads, and the features of one head; `kv_heads` for heads of keys and values
    pairs                    pairs of features that a rotary embedding rotates
    patches visible hidden   patches of an image; those that the encoder sees; those that are masked
    pixels                   values of one patch
    space window             spatial axes of a convolution's input, and of its kernel
    experts                  experts of a mixture
    layers                   layers that are stacked in one array
    ratio                    unlabelled examples per labelled example
    tasks                    tasks that are trained together
    samples others           draws from a distribution, and examples of a second set
    latents                  size of a latent vector
    environments             copies of an environment that run in parallel
    states actions           states and actions of a Markov decision process
    places                   slots of a queue or ring buffer, and keys that are derived in one call
    bins points              bins of a histogram, and points of a curve
    tests slices             tests of one comparison, and slices of an evaluation set
    rows                     records of a data set or rows of an evaluation, on the host
    steps devices microbatches clients    leading axes of a stack of batches
    *example *observation *entry          all axes of an example, of an observation, of an arbitrary array
"""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Key, Num, PyTree, Shaped, UInt8, UInt32

__all__ = ["Array", "Bool", "Float", "Int", "Integer", "Key", "Num", "PyTree", "Scalar", "Shaped", "UInt8", "UInt32"]

Array = jax.Array | np.ndarray  # both are accepted everywhere; computed results are a jax.Array
Scalar = Float[jax.Array, ""]
