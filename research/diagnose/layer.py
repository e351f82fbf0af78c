"""What reaches a model's first layer, found in its program: no model needs to say so."""

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")


def first_layer_inputs(apply, params, stats, inputs):
    """The operand that the first matrix product or convolution of `apply(params, stats, *inputs)` takes from the
    inputs and multiplies by params, its features moved to the last axis: f32 [..., F]; None where there is none (as in
    an embedding, which looks up).

    The program is cut off before that operation, so that scaling, cropping and all else that precedes it is done.
    """
    closed = jax.make_jaxpr(lambda p, x: apply(p, stats, *x, train=False)[0])(params, inputs)
    leaves, count = jax.tree.leaves((params, inputs)), len(jax.tree.leaves(params))
    values, body, constants = leaves, closed.jaxpr, closed.consts
    marks = [{"params"}] * count + [{"inputs"}] * (len(leaves) - count)
    while True:
        _, at, marks = _layer(body, marks)
        if at is None:
            return None
        equation = body.eqns[at]
        values = _run(body, constants, values, equations=body.eqns[:at], outputs=equation.invars)
        if axes := _features(equation, marks):
            break
        body, constants = _inner(equation)
    operand, axes = axes
    last = jnp.moveaxis(values[operand], axes, range(-len(axes), 0))
    return last.reshape(*last.shape[: last.ndim - len(axes)], -1).astype(jnp.float32)


def _layer(body, marks):
    """What the outputs of a jaxpr depend on, and the number and the operands' marks of the equation that is the first
    layer or has it within; None and () where there is none.
    """
    known = dict(zip(body.invars, marks, strict=True))
    read = lambda atom: set() if isinstance(atom, Literal) else known.get(atom, set())
    for at, equation in enumerate(body.eqns):
        given = [read(atom) for atom in equation.invars]
        inner = _inner(equation)
        found = _layer(inner[0], given) if inner else None
        if _features(equation, given) or (found and found[1] is not None):
            return [], at, given
        after = found[0] if found else [set().union(*given)] * len(equation.outvars)
        known |= zip(equation.outvars, after, strict=True)
    return [read(atom) for atom in body.outvars], None, ()


def _inner(equation):
    """(jaxpr, constants) of what an equation calls once; None where it calls nothing, or a loop."""
    inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
    if equation.primitive.name not in CALLS or inner is None:
        return None
    return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())


def _features(equation, marks):
    """(operand, its axes that are contracted) where an equation multiplies what depends on inputs by params alone."""
    name = equation.primitive.name
    if name == "dot_general":
        contracted = equation.params["dimension_numbers"][0]
    elif name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        contracted = ((numbers.lhs_spec[1],), (numbers.rhs_spec[1],))
    else:
        return None
    for here, other in ((0, 1), (1, 0)):
        if "inputs" in marks[here] and marks[other] == {"params"}:
            return here, contracted[here]
    return None


def _run(body, constants, values, *, equations, outputs):
    """The values of `outputs` after the first `equations` of a jaxpr."""
    asked = [atom for atom in outputs if not isinstance(atom, Literal)]
    cut = body.replace(eqns=equations, outvars=asked, debug_info=body.debug_info.with_unknown_names())
    found = iter(jax.jit(jaxpr_as_fun(ClosedJaxpr(cut, constants)))(*values))
    return [atom.val if isinstance(atom, Literal) else next(found) for atom in outputs]
