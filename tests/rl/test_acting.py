"""Acting: what a rollout writes down, what an interruption leaves, and that it moves. On an environment that counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Ctx, Eval, Model, State, Trained, draw, many
from research.errors import UserError
from research.experiment import Experiment, build
from research.loop import run
from research.optim.target import target
from research.rl.acting import Experience, acting, environment_ids, episodes, rollout
from research.rl.dqn import dqn
from research.rl.environment import Environment, Transition, time_limit
from research.rl.measure import measure_return, trials
from research.rl.policies import epsilon_greedy, greedy, sampling
from research.rl.replay import replay
from research.runs.checkpoint import Checkpoints
from research.runs.record import Record


def counter(*, end=5):
    """Counts up by action + 1, from 0 or 1 by chance; terminated at `end` or just above. The observation is the count
    and a random number; the reward is the count before the step.
    """

    def reset(key):
        return {"count": jax.random.randint(key, (), 0, 2), "noise": jax.random.uniform(key)}

    def observe(state):
        return jnp.stack([state["count"].astype(jnp.float32), state["noise"]])

    def step(state, action, key):
        after = {"count": state["count"] + action + 1, "noise": jax.random.uniform(key)}
        reward = state["count"].astype(jnp.float32)
        # Beyond the end it would go on: who plays must remember that it is over.
        terminated = (after["count"] >= end) & (after["count"] < end + 2)
        return Transition(after, observe(after), reward, terminated, jnp.bool_(False))

    return Environment(reset, step, observe, num_actions=2)


def linear(params, stats, x, key=None, train=False):
    return x @ params["w"] + params["b"], {}


def fresh(world, count=3, seed=0, step=0):
    params = {"w": np.array([[0.3, -0.2], [1.0, 2.0]], np.float32), "b": np.zeros(2, np.float32)}
    stats = {"episodes": jax.jit(episodes(world, count).memory)(jax.random.key(seed), params)}
    return State(jnp.uint32(seed), jnp.uint32(0), jnp.int32(step), params, stats, optax.sgd(0.1).init(params))


def noisy(params, ctx):
    """Any action, drawn from the key."""
    count = len(ctx.batch["observation"])
    return jax.random.randint(draw(ctx.key, "any"), (count,), 0, 2), {"twice": 2 * ctx.batch["observation"][:, 0]}


def test_a_rollout_is_what_happened_step_by_step():
    """Episodes ended by a goal and by the clock: checked against the rules of the counter, row by row."""
    world, length = time_limit(counter(), 3), 60
    state = fresh(world)
    play = jax.jit(lambda state, key: rollout(state, world, policy=noisy, length=length, rows=jnp.arange(3), key=key))
    entry, t, metrics = jax.device_get(play(state, jax.random.key(1)))
    counts, after = np.asarray(t.observation)[..., 0], np.asarray(t.next_observation)[..., 0]
    np.testing.assert_array_equal(counts[0], state.stats["episodes"]["state"]["inner"]["count"])
    np.testing.assert_array_equal(after, counts + t.action + 1)
    np.testing.assert_array_equal(t.reward, counts)
    np.testing.assert_array_equal(t.terminated, after >= 5)
    np.testing.assert_array_equal(t.notes["twice"], 2 * counts)
    finished, total, steps = [], np.zeros(3), np.zeros(3)
    done = np.asarray(t.terminated | t.truncated)
    for i in range(length):
        total, steps = total + counts[i], steps + 1
        np.testing.assert_array_equal(t.truncated[i], steps == 3)
        finished += [(r, n) for r, n, over in zip(total, steps, done[i], strict=True) if over]
        total, steps = np.where(done[i], 0, total), np.where(done[i], 0, steps)
        if i + 1 < length:
            assert (counts[i + 1][done[i]] <= 1).all()  # a fresh one
            np.testing.assert_array_equal(t.observation[i + 1][~done[i]], t.next_observation[i][~done[i]])
    np.testing.assert_array_equal(entry["return"], total)
    np.testing.assert_array_equal(entry["length"], steps)
    returns, lengths = np.transpose(finished)
    assert metrics["return"] == (returns.sum(), len(finished)) and metrics["length"] == (lengths.sum(), len(finished))
    assert np.any(t.terminated & ~t.truncated) and np.any(t.truncated & ~t.terminated)
    # What is random differs from step to step, from environment to environment, and with the key.
    noise = np.asarray(t.next_observation)[..., 1]
    assert len(np.unique(noise)) == noise.size
    starts = np.asarray(t.observation)[1:][done[:-1]]
    assert len(np.unique(starts[:, 1])) == len(starts) and set(starts[:, 0]) == {0, 1}
    other = jax.device_get(play(state, jax.random.key(2))).trajectory
    assert not np.array_equal(other.action, t.action) and not np.isin(other.next_observation[..., 1], noise).any()


def seen(trajectory):
    """A batch of each row of a rollout."""
    return {"observation": trajectory.observation, "reward": trajectory.reward}


def trained(state, batch):
    """A step that writes down the first observation it is given."""
    step = draw(state.seed, "step", state.step)
    params = {**state.params, "b": state.params["b"] + jax.random.uniform(step) * batch["observation"][0, 0]}
    return state._replace(step=state.step + 1, params=params), {"seen": batch["observation"].sum((0, 1))}


def test_a_dispatch_is_rollouts_and_steps_in_turn():
    """Two rounds in one call are the same as two calls, and as rollout and `many` by hand."""
    world = counter()
    prepare = lambda state, trajectory, *, key: Experience({}, seen(trajectory))
    step = lambda updates: acting(trained, world, policy=noisy, batches=prepare, length=4, updates=updates)
    state, rows = fresh(world), np.tile(np.arange(3), (8, 1))
    together, metrics = jax.jit(step(4))(state, rows_of(rows))
    play = jax.jit(lambda state, key: rollout(state, world, policy=noisy, length=4, rows=rows[0], key=key))
    four = jax.jit(many(trained, 4))
    by_hand, total = state, 0
    for number in range(2):
        key = draw(jnp.uint32(0), "acting", 0, 4 * number)
        played = play(by_hand, key)
        by_hand = by_hand._replace(stats={"episodes": played.entry})
        by_hand, found = four(by_hand, seen(played.trajectory))
        total += found["seen"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), together, by_hand)
    np.testing.assert_allclose(metrics["seen"], total, rtol=1e-6)
    assert together.step == 8
    single = acting(trained, world, policy=noisy, length=1, updates=1, batches=prepare)
    alone, _ = jax.jit(single)(state, {"environment": jnp.arange(3)})  # a stride of 1 is not stacked
    assert alone.step == 1 and metrics["return"].weight > 0


def rows_of(rows):
    return {"environment": rows}


def test_what_does_not_fit_is_an_error():
    world, state = counter(), fresh(counter())
    prepare = lambda state, trajectory, *, key: Experience({}, seen(trajectory))
    step = acting(trained, world, policy=noisy, batches=prepare, length=4, updates=4)
    with pytest.raises(UserError, match="stride of 6 is not a multiple of the 4"):
        step(state, rows_of(jnp.zeros((6, 3), int)))
    with pytest.raises(UserError, match=r"needs updates=2 batches per round; got \[4\]"):
        acting(trained, world, policy=noisy, batches=prepare, length=4, updates=2)(
            state, rows_of(jnp.zeros((2, 3), int))
        )
    named = acting(trained, world, policy=noisy, batches=prepare, length=4, updates=4, name="episode")
    with pytest.raises(UserError, match="unknown stats entry 'episode'. Did you mean 'episodes'"):
        named(state, rows_of(jnp.zeros((4, 3), int)))


def experiment(**changes):
    """Q-learning on the counter: 48 steps, two rounds of four a dispatch."""
    world = time_limit(counter(), 4)
    model = Model(
        lambda key: ({"w": 0.1 * jax.random.normal(key, (2, 2)), "b": jnp.zeros(2)}, {}),
        linear,
    )
    memory, lagging = replay(world, capacity=48, size=8, updates=4), target(every=6)
    policy = epsilon_greedy(model, epsilon=optax.linear_schedule(1.0, 0.1, 40))
    play = lambda step: acting(step, world, policy=policy, batches=memory.use, length=2, updates=4)
    fields = {
        "init": model.init, "apply": model.apply, "loss": dqn(model, discount=0.9), "optimizer": optax.adam(0.01),
        "source": environment_ids(4), "steps": 48, "transform": play, "stride": 8, "log_every": 16, "save_every": 8,
        "techniques": (episodes(world, 4), memory, lagging),
        "evals": {"test": Eval(trials(5, size=8), measure_return(world, steps=4), every=16)},
    }  # fmt: skip
    return Experiment(**{**fields, **changes})


@functools.cache
def built_on(count):
    return build(experiment(), seed=3, devices=jax.devices()[:count])


def go(folder, *, interrupted=lambda: False, devices=1):
    built = built_on(devices)
    folder.mkdir(exist_ok=True)
    with Record(folder / "metrics.jsonl") as record, Checkpoints(folder / "checkpoints") as checkpoints:
        return run(built, checkpoints=checkpoints, record=record, tell=lambda event: None, interrupted=interrupted)


def after(calls):
    left = [calls]

    def interrupted():
        left[0] -= 1
        return left[0] < 0

    return interrupted


def test_an_interrupted_run_ends_bitwise_as_an_unbroken_one(tmp_path):
    whole = go(tmp_path / "whole")
    assert whole.status == "finished" and whole.results["test"]["length"] >= 1
    for calls in (4, 5):
        assert go(tmp_path / "pieces", interrupted=after(calls)).status == "preempted"
    final = go(tmp_path / "pieces")
    jax.tree.map(np.testing.assert_array_equal, final.state, whole.state)
    text = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "pieces")]
    assert text[0] == text[1] and "train/return" in text[0] and "test/return" in text[0]
    # 48 steps at 8 transitions a round of four: the ring has gone round twice.
    assert whole.state.stats["replay"]["held"] == 48 and whole.state.stats["replay"]["next"] == 0
    # Four devices share the environments; what they play and learn is the same up to rounding.
    spread = go(tmp_path / "spread", devices=4)
    np.testing.assert_allclose(spread.state.params["w"], whole.state.params["w"], rtol=1e-4, atol=1e-6)
    played = [x.stats["replay"]["rows"]["action"] for x in (spread.state, whole.state)]
    np.testing.assert_array_equal(*played)


def test_the_policies():
    """Greedy by argmax; epsilon-greedy and sampling by their frequencies and, at their limits, exactly."""
    x = jnp.tile(jnp.array([[1.0, 0.0, 0.0]]), (20_000, 1))
    params = jnp.array([[0.0, 1.0, -1.0, 0.5], [0.0] * 4, [0.0] * 4])
    q = lambda params, stats, x, key=None, train=False: (x @ params, {})
    pair = lambda params, stats, x, key=None, train=False: ((x @ params, 3 * x[:, 0]), {})
    at = lambda key, step=0: Ctx({"observation": x}, {}, jax.random.key(key), jnp.int32(step))
    for apply in (q, pair):
        actions, notes = greedy(apply)(params, at(0))
        assert notes == {} and actions.dtype == jnp.int32 and (actions == 1).all()
    policy = jax.jit(epsilon_greedy(q, epsilon=optax.linear_schedule(0.4, 0.0, 10)))
    first, none, other = policy(params, at(0))[0], policy(params, at(0, 10))[0], policy(params, at(1))[0]
    np.testing.assert_allclose(np.bincount(first) / len(x), [0.1, 0.7, 0.1, 0.1], atol=0.01)
    assert (none == 1).all() and np.mean(first != other) > 0.3
    softmax = np.exp(params[0]) / np.exp(params[0]).sum()
    policy = jax.jit(sampling(pair))
    actions, notes = policy(params, at(0))
    np.testing.assert_allclose(np.bincount(actions) / len(x), softmax, atol=0.01)
    np.testing.assert_allclose(notes["log_prob"], np.log(softmax)[actions], rtol=1e-5)
    assert (notes["value"] == 3).all() and np.mean(actions != policy(params, at(1))[0]) > 0.3


def test_the_measure_plays_whole_episodes():
    """Always +1, or +2 with a large count: the returns of the counter from 0 and from 1, by hand."""
    world = counter(end=4)
    twos = lambda params, stats, x, key=None, train=False: (jnp.stack([x[:, 0], jnp.full(len(x), params)], -1), {})
    source = trials(6, first=10, size=4)
    played = measure_return(world, steps=9, discount=0.5)
    measure = jax.jit(lambda params, batch: played(Trained(twos, params, {}), batch))

    def by_hand(start, large):
        count, total, steps = start, 0.0, 0
        while count < 4:
            total, steps = total + 0.5**steps * count, steps + 1
            count += 2 if large > count else 1
        return total, steps

    for large in (0.5, -1.0):
        found, starts = [0, 0, 0], []
        for i in range(len(source)):
            batch = source(i)
            keys = [draw(draw(0, "evaluation", int(seed)), "reset") for seed in batch["seed"]]
            starts += [int(world.reset(key)["count"]) for key, m in zip(keys, batch["mask"], strict=True) if m]
            results = measure(large, batch)
            parts = (results["return"].sum, results["length"].sum, results["return"].weight)
            found = [a + b for a, b in zip(found, parts, strict=True)]
        returns, lengths = np.sum([by_hand(start, large) for start in starts], 0)
        np.testing.assert_allclose(found, [returns, lengths, 6], rtol=1e-6)
        assert set(starts) == {0, 1}
    short = measure_return(world, steps=2)(Trained(twos, -1.0, {}), trials(4)(0))
    assert short["length"].value() == 2
