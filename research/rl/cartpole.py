"""CartPole: balance a pole on a cart by pushing it left or right."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Int, Key
from research.core import draw
from research.rl.environment import Environment, Transition, time_limit

GRAVITY, CART, POLE, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5  # m/s^2, kg, kg, m
FORCE, SECONDS = 10.0, 0.02  # N, s between two steps
FAR, MAX_ANGLE = 2.4, 12 * 2 * math.pi / 360  # m, rad


def cartpole(*, steps: int = 500) -> Environment:
    """Return the cart-pole environment of Barto, Sutton & Anderson 1983; with steps=500 it is gymnasium's CartPole-v1.

    The state's inner part is the observation, four f32 numbers: position (m), velocity (m/s), angle (rad) and angular
    velocity (rad/s), each within +-0.05 after a reset. Action 0 pushes left, action 1 right. The reward is 1 for every
    step, including the last. An episode is terminated beyond 2.4 m or 12 degrees, and truncated at `steps`. The
    integrator is Euler's method in the state's dtype. gymnasium computes in f64, thus steps agree up to f32 rounding.
    """
    environment = Environment(_reset, _step, observe=lambda state: state, num_actions=2)
    return time_limit(environment, steps)


def _reset(key: Key[Array, ""]) -> Float[Array, "4"]:
    return jax.random.uniform(draw(key, "cartpole"), (4,), minval=-0.05, maxval=0.05)


def _step(state: Float[Array, "4"], action: int | Int[Array, ""], key: Key[Array, ""]) -> Transition:
    x, speed, angle, spin = state
    force = jnp.where(action == 1, FORCE, -FORCE).astype(state.dtype)
    mass, moment = CART + POLE, POLE * HALF_LENGTH
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    # Florian 2007, Correct equations for the dynamics of the cart-pole system, equations 23 and 24, without friction.
    push = (force + moment * spin**2 * sine) / mass
    turn = (GRAVITY * sine - cosine * push) / (HALF_LENGTH * (4 / 3 - POLE * cosine**2 / mass))
    slide = push - moment * turn * cosine / mass
    # Explicit Euler: positions move by the old velocities.
    after = jnp.stack([x + SECONDS * speed, speed + SECONDS * slide, angle + SECONDS * spin, spin + SECONDS * turn])
    terminated = (jnp.abs(after[0]) > FAR) | (jnp.abs(after[2]) > MAX_ANGLE)
    return Transition(after, after, jnp.float32(1), terminated, jnp.bool_(False))
