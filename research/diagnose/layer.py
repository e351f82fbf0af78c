"""The inputs of a model's first layer, read from its jaxpr, so that models need no annotation."""

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")


def first_layer_inputs(apply, params, stats, inputs):
    """Return the inputs of the first layer of `apply(params, stats, *inputs)`: f32 [..., F], features last.

    The first layer is the first matrix product or convolution of a value that depends on the inputs with one that
    depends on params alone. Returns None if there is none, as in a model that begins with an embedding lookup.

    The program is run up to that operation, so scaling, cropping and other preprocessing have been applied.
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
    """Find the first layer: (marks of the jaxpr's outputs, index of the equation, marks of its operands).

    The equation is the first layer or a call that contains it. Index and marks are None and () if there is none. A mark
    is the set of "params" and "inputs" that a value depends on.
    """
    marks_of = dict(zip(body.invars, marks, strict=True))
    read = lambda atom: set() if isinstance(atom, Literal) else marks_of.get(atom, set())
    for at, equation in enumerate(body.eqns):
        operand_marks = [read(atom) for atom in equation.invars]
        inner = _inner(equation)
        nested = _layer(inner[0], operand_marks) if inner else None
        if _features(equation, operand_marks) or (nested and nested[1] is not None):
            return [], at, operand_marks
        after = nested[0] if nested else [set().union(*operand_marks)] * len(equation.outvars)
        marks_of |= zip(equation.outvars, after, strict=True)
    return [read(atom) for atom in body.outvars], None, ()


def _inner(equation):
    """(jaxpr, constants) of a function that an equation calls exactly once; None for loops and plain operations."""
    inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
    if equation.primitive.name not in CALLS or inner is None:
        return None
    return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())


def _features(equation, marks):
    """(operand index, its contracted axes) if an equation multiplies a value of the inputs by params; else None."""
    name = equation.primitive.name
    if name == "dot_general":
        contracted = equation.params["dimension_numbers"][0]
    elif name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        contracted = ((numbers.lhs_spec[1],), (numbers.rhs_spec[1],))
    else:
        return None
    for operand, other in ((0, 1), (1, 0)):
        if "inputs" in marks[operand] and marks[other] == {"params"}:
            return operand, contracted[operand]
    return None


def _run(body, constants, values, *, equations, outputs):
    """The values of `outputs` after the first `equations` of a jaxpr."""
    variables = [atom for atom in outputs if not isinstance(atom, Literal)]
    cut = body.replace(eqns=equations, outvars=variables, debug_info=body.debug_info.with_unknown_names())
    results = iter(jax.jit(jaxpr_as_fun(ClosedJaxpr(cut, constants)))(*values))
    return [atom.val if isinstance(atom, Literal) else next(results) for atom in outputs]
