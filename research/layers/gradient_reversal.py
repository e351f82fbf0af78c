"""The gradient reversal layer: the identity, whose gradient has the other sign."""

import jax


@jax.custom_vjp
def reverse_gradient(x, scale=1.0):
    """x as it is; backwards, the gradient times -`scale` (Ganin et al. 2016, eq. 16-17): [...] -> [...].

    `scale` is a number or a traced scalar, the paper's lambda, and gets no gradient. With scale 0 what lies below gets
    no gradient from above; with -1 it is the identity in both directions. Not for forward-mode differentiation.
    """
    return x


def _forward(x, scale):
    return x, scale


def _backward(scale, gradient):
    return (-scale * gradient).astype(gradient.dtype), None


reverse_gradient.defvjp(_forward, _backward)
