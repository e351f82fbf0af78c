"""Grid worlds from text, with the exact tables that dynamic programming needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Bool, Float, Int, Key, Shaped
from research.core import draw
from research.errors import UserError
from research.rl.environment import Environment, Transition

LETTERS = {"S": "start", "F": "free", "H": "hole", "G": "goal", "#": "wall"}
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up, as (row, column)


class Tables(NamedTuple):
    """A grid world as a Markov decision process in f64; its states are the cells, row by row.

    `probabilities` are those of the next cell (all zero from a goal, hole or wall, because nothing follows). `rewards`
    are expected rewards. `starts` are the probabilities of the first cell. `reachable` marks the cells in which an
    agent can be before a step.
    """

    probabilities: Float[np.ndarray, "states actions states"]
    rewards: Float[np.ndarray, "states actions"]
    starts: Float[np.ndarray, " states"]
    reachable: Bool[np.ndarray, " states"]


def grid_world(
    grid: Sequence[str], *, slip: float = 0.0, goal: float = 1.0, hole: float = 0.0, cost: float = 0.0
) -> Environment:
    """Return the environment of an agent that walks over the cells of `grid`.

    `grid` lists rows of letters as in gymnasium's FrozenLake, with # for a wall. An episode starts at one of the S, all
    equally likely. It terminates on entering a goal G or a hole H. Actions 0 to 3 are left, down, right and up. With
    probability `slip`, the agent instead moves to the left or right of the chosen direction, each equally likely. A
    move into a wall or off the grid has no effect. The reward is `goal` or `hole` on entering one, otherwise `-cost`.
    The state is the cell's index, i32; the observation is its one-hot vector, f32.

    There is no time limit (see `time_limit`). Raises UserError for a grid that is ragged, has no start or has unknown
    letters, and for a slip outside 0 to 1.
    """
    letters = _letters(grid)
    moves, is_end, rewards = _moves(letters), np.isin(letters, ["G", "H"]).ravel(), _rewards(letters, goal, hole, cost)
    starts = np.flatnonzero(letters.ravel() == "S").astype(np.int32)
    turn_probabilities = _turn_probabilities(slip)

    def observe(state: Int[Array, ""]) -> Float[Array, " states"]:
        return jax.nn.one_hot(state, letters.size)

    def reset(key: Key[Array, ""]) -> Int[Array, ""]:
        return jax.random.choice(draw(key, "start"), starts)

    def step(state: Int[Array, ""], action: int | Int[Array, ""], key: Key[Array, ""]) -> Transition:
        turn = jax.random.choice(draw(key, "slip"), 3, p=jnp.asarray(turn_probabilities, jnp.float32)) - 1
        after = jnp.asarray(moves)[state, (action + turn) % 4]
        reward = jnp.asarray(rewards, jnp.float32)[after]
        return Transition(after, observe(after), reward, jnp.asarray(is_end)[after], jnp.bool_(False))

    return Environment(reset, step, observe, num_actions=4)


def tables(
    grid: Sequence[str], *, slip: float = 0.0, goal: float = 1.0, hole: float = 0.0, cost: float = 0.0
) -> Tables:
    """Compute the Tables of `grid_world` with the same arguments; raises UserError for the same faults."""
    letters = _letters(grid)
    size, moves = letters.size, _moves(letters)
    is_end, rewards = np.isin(letters, ["G", "H"]).ravel(), _rewards(letters, goal, hole, cost)
    inside = np.isin(letters, ["S", "F"]).ravel()
    probabilities, expected = np.zeros((size, 4, size)), np.zeros((size, 4))
    for turn, probability in zip((-1, 0, 1), _turn_probabilities(slip), strict=True):
        for action in range(4):
            after = moves[:, (action + turn) % 4]
            probabilities[np.arange(size), action, after] += probability
            expected[:, action] += probability * rewards[after]
    absorbing = is_end | (letters == "#").ravel()
    probabilities[absorbing], expected[absorbing] = 0, 0
    starts = (letters == "S").ravel() / np.sum(letters == "S")
    return Tables(probabilities, expected, starts, inside)


def _letters(grid: Sequence[str]) -> Shaped[np.ndarray, "height width"]:
    """Return the grid as an array of letters, after checking it."""
    if len({len(row) for row in grid}) != 1:
        raise UserError(f"the rows of a grid have lengths {[len(row) for row in grid]}; expected equal lengths.")
    if wrong := sorted(set("".join(grid)) - set(LETTERS)):
        raise UserError(f"unknown letter {wrong[0]!r} in a grid. Valid: {LETTERS}.")
    if not any("S" in row for row in grid):
        raise UserError("a grid needs at least one start, S.")
    return np.array([list(row) for row in grid])


def _moves(letters: Shaped[np.ndarray, "height width"]) -> Int[np.ndarray, "height*width 4"]:
    """Return the cell that each action leads to, without slipping."""
    rows, columns = letters.shape
    moves = np.zeros((letters.size, 4), np.int32)
    for cell in range(letters.size):
        for action, (down, right) in enumerate(MOVES):
            row = min(max(cell // columns + down, 0), rows - 1)
            column = min(max(cell % columns + right, 0), columns - 1)
            moves[cell, action] = cell if letters[row, column] == "#" else row * columns + column
    return moves


def _rewards(
    letters: Shaped[np.ndarray, "height width"], goal: float, hole: float, cost: float
) -> Float[np.ndarray, " height*width"]:
    """Return the reward for entering each cell."""
    return np.select([letters.ravel() == "G", letters.ravel() == "H"], [goal, hole], -cost)


def _turn_probabilities(slip: float) -> Float[np.ndarray, "3"]:
    """Return the probabilities of a turn to the left, no turn, and a turn to the right."""
    if not 0 <= slip <= 1:
        raise UserError(f"a slip of {slip}; expected a probability, 0 to 1.")
    return np.array([slip / 2, 1 - slip, slip / 2])
