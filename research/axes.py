"""Shapes in signatures: the dtypes of jaxtyping, and one glossary of axis names for the whole codebase.

    def cross_entropy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:

An axis name means the same in every argument and result of a signature. `*name` is any number of axes, `_` one that is
not named, `...` any number of them, and a number or an expression (`4*channels`) a size. A shape that could be read as
code, such as a single name, begins with a space (`" batch"`), so that linters take it for text. Annotations are text at
run time (`from __future__ import annotations`) and cost nothing; the tests check them at every call.

    batch                    examples; `*batch` if a function works on any number of leading axes
    classes                  classes of a classifier
    height width channels    of images, in this order (NHWC)
    time                     positions of a row of tokens, or steps of a rollout; `keys` if they differ from `time`
    vocabulary               different tokens
    features                 entries of a vector that describes an example or a position; `outputs` of a layer's result
    heads head               attention heads, and features of each
    patches visible hidden   patches of an image, those of them that an encoder sees, and the others
    pixels                   numbers of a patch
    space window             spatial axes of any number: of the input of a convolution, and of its kernel
    experts                  experts of a mixture
    layers                   layers that are kept as one
    ratio                    unlabelled examples for each labelled one
    tasks                    tasks of several that are trained together
    samples others           draws from a distribution, and examples of a second set
    latents                  entries of a latent vector
    environments             copies of an environment that are played side by side
    states actions           of a Markov decision process
    places                   of a queue or a ring, and of keys that are drawn at once
    bins points              of a histogram, and of a curve
    tests slices             tests of one comparison, and parts of an evaluation set
    rows                     records of a data set or rows of an evaluation, on the host
    steps devices microbatches clients    leading axes of a stack of batches
    *example *observation *entry          all axes of one example, of an observation, of an array of any kind
"""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Key, Num, PyTree, Shaped, UInt8, UInt32

__all__ = ["Array", "Bool", "Float", "Int", "Integer", "Key", "Num", "PyTree", "Scalar", "Shaped", "UInt8", "UInt32"]

Array = jax.Array | np.ndarray  # both are welcome everywhere; what is computed is a jax.Array
Scalar = Float[jax.Array, ""]
