"""Learn the values of a slippery grid world with Q-learning, and compare them with dynamic programming.

The DQN of `dqn_cartpole` (Mnih et al. 2015) with a table as its network: a linear layer over one-hot cells. This is
Q-learning (Watkins & Dayan 1992) with a replay buffer. Value iteration computes the exact values.

    python -m research train experiments/rl/grid_world.py
    python -m research train experiments/rl/grid_world.py --exploration 0.1

Expected: a mean error of 0.02 over the cells, compared with the exact values (0.022, 0.016, 0.023), and a discounted
return of 0.196 (optimum: 0.197). Ours, measured over 3 seeds. Time: under a minute on two cores (AMD EPYC, AVX2).
"""

import jax.numpy as jnp
import numpy as np
import optax

from research.core import Eval, Model, weighted_mean
from research.data import arrays, eval_batches
from research.duration import percent
from research.experiment import Claim, Experiment
from research.optim.schedules import warmup_cosine
from research.optim.target import target
from research.rl.acting import acting, environment_ids, episodes
from research.rl.dqn import dqn
from research.rl.dynamic_programming import value_iteration
from research.rl.environment import time_limit
from research.rl.grid_world import grid_world, tables
from research.rl.measure import measure_return, trials
from research.rl.policies import epsilon_greedy
from research.rl.replay import replay

GRID = ("SSSSSS", "SHS#SS", "SSS#HS", "S##SSS", "SSSSHG")
RULES = {"slip": 0.2, "goal": 0.5, "hole": -0.5}  # keeps errors below 1, where the loss is quadratic


def experiment(
    *,
    steps: int = 10_000,
    environments: int = 32,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    discount: float = 0.95,
    exploration: float = 0.5,
) -> Experiment:
    """Tabular Q-learning; every free cell is a start cell, so that all cells are visited.

    exploration: fraction of random actions; Q-learning learns the greedy values under any behaviour policy

    `exact/error` is the largest error among a cell's four action values. `exact/regret` is the exact value that its
    greedy action loses compared with the best action. Both are averaged over the cells.
    """
    world = time_limit(grid_world(GRID, **RULES), 50)
    exact = tables(GRID, **RULES)
    cells, best = len(exact.rewards), value_iteration(exact.probabilities, exact.rewards, discount=discount)
    model = Model(
        lambda key: ({"table": jnp.zeros((cells, 4))}, {}),
        lambda params, stats, x, key=None, train=False: (x @ params["table"], {}),
    )
    policy = epsilon_greedy(model, epsilon=lambda step: exploration)
    memory, lagging = replay(world, capacity=16_384, size=batch_size, updates=1), target(tau=0.05)

    def play(step):
        return acting(step, world, policy=policy, batches=memory.use, length=1, updates=1)

    def compare(trained, batch):
        estimated, exact = trained(batch["observation"]), batch["value"]
        chosen = jnp.take_along_axis(exact, estimated.argmax(-1)[:, None], -1)[:, 0]
        return {
            "error": weighted_mean(jnp.abs(estimated - exact).max(-1), batch["mask"]),
            "regret": weighted_mean(exact.max(-1) - chosen, batch["mask"]),
        }

    reachable = exact.reachable.nonzero()[0]
    truth = eval_batches(
        arrays(observation=np.eye(cells, dtype=np.float32)[reachable], value=best.action[reachable].astype(np.float32)),
        len(reachable),
    )
    optimum = float(exact.starts @ best.state)
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=dqn(model, discount=discount),
        learning_rate=warmup_cosine(learning_rate, steps=steps),
        optimizer=optax.adam,
        source=environment_ids(environments),
        steps=steps,
        techniques=(episodes(world, environments), memory, lagging),
        transform=play,
        stride=200,
        log_every=percent(5),
        evals={
            "exact": Eval(truth, compare, every=percent(10)),
            "test": Eval(trials(10_000), measure_return(world, steps=50, discount=discount)),
        },
        claims=(
            Claim("exact/error", at_most=0.05, reference="ours; value iteration is 0"),
            Claim("test/return", at_least=optimum - 0.01, reference=f"value iteration: {optimum:.3f}"),
        ),
    )
