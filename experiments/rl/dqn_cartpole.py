"""Solve CartPole with double DQN: off-policy learning from a replay buffer, in the same training loop.

Deep Q-learning (Mnih et al. 2015) with the double estimator (van Hasselt et al. 2016). A step of the run is one
optimizer step on one batch from the replay buffer. Before every `updates` optimizer steps, `environments` environments
advance by `length` steps each.

    python -m research train experiments/rl/dqn_cartpole.py
    python -m research train experiments/rl/dqn_cartpole.py --no-double
    python -m research train experiments/rl/dqn_cartpole.py --delta 1

Expected: a mean return of 498.5 over 100 episodes, of at most 500 (ours, seeds 0 to 2: 500, 500 and 495.6). With
--delta 1, which clips the error much earlier, seed 0 ends at 179. Time: under a minute on two cores (47 seconds of CPU
time; AMD EPYC, AVX2).
"""

import jax.numpy as jnp
import optax

from research.core import Eval
from research.duration import percent
from research.experiment import Claim, Experiment
from research.model import from_nnx
from research.models.mlp import MLP
from research.optim.ema import ema
from research.optim.schedules import warmup_cosine
from research.optim.target import target
from research.rl.acting import acting, environment_ids, episodes
from research.rl.cartpole import cartpole
from research.rl.dqn import dqn
from research.rl.measure import measure_return, trials
from research.rl.policies import epsilon_greedy
from research.rl.replay import replay
from research.wrappers.preprocess import preprocessed


def experiment(
    *,
    steps: int = 20_000,
    environments: int = 8,
    length: int = 2,
    updates: int = 4,
    rounds: int = 100,
    batch_size: int = 128,
    capacity: int = 100_000,
    learning_rate: float = 1e-3,
    discount: float = 0.99,
    double: bool = True,
    target_every: int = 50,
    exploration: float = 0.05,
    delta: float = 100.0,
) -> Experiment:
    """Learn action values from replayed transitions.

    updates: optimizer steps after every `environments * length` environment steps
    rounds: rounds of play and updates in one dispatch
    exploration: final fraction of random actions; it falls from 1 over the first tenth of the run
    delta: error beyond which the loss is linear; returns reach 1 / (1 - discount)
    """
    world = cartpole()
    network = from_nnx(lambda rngs: MLP((4,), hidden=(128, 128), num_classes=world.num_actions, rngs=rngs))
    model = preprocessed(network, lambda seen: seen / jnp.array([2.4, 2.0, 0.21, 2.0]))
    epsilon = optax.linear_schedule(1.0, exploration, steps // 10)
    policy = epsilon_greedy(model, epsilon=epsilon)
    memory = replay(world, capacity=capacity, size=batch_size, updates=updates, warm=1000)
    lagging, average = target(every=target_every), ema(0.999)

    def play(step):
        return acting(step, world, policy=policy, batches=memory.use, length=length, updates=updates)

    measure = measure_return(world, steps=500)
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=dqn(model, discount=discount, double=double, delta=delta),
        learning_rate=warmup_cosine(learning_rate, steps=steps),
        optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate)),
        schedules={"epsilon": epsilon},
        source=environment_ids(environments),
        steps=steps,
        techniques=(episodes(world, environments), memory, lagging, average),
        transform=play,
        stride=rounds * updates,
        log_every=percent(5),
        evals={
            "valid": Eval(trials(20), measure, every=percent(10), view=average.view),
            "test": Eval(trials(100, first=1000), measure, view=average.view),
        },
        claims=(Claim("test/return", at_least=450, reference="ours, measured over 3 seeds"),),
    )
