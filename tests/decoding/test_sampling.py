import jax
import jax.numpy as jnp
import numpy as np

from research.core import Trained
from research.decoding.decoder import recomputed
from research.decoding.rules import temperature
from research.decoding.sampling import advance, begin, generate


def successor(params, stats, tokens, *, train=False):
    """A language model that is sure that the next token is one more, and cannot look ahead."""
    return 50.0 * jax.nn.one_hot((tokens + 1) % 7, 7), {}


def pair(params, stats, tokens, *, train=False):
    """One that gives 1 three times as often as 0."""
    return jnp.broadcast_to(jnp.log(jnp.array([0.25, 0.75])), (*tokens.shape, 2)), {}


def bigram(params, stats, tokens, *, train=False):
    """One whose logits depend on the last token."""
    return params[tokens], {}


PROMPTS, LENGTHS = np.array([[3, 0, 0], [1, 5, 2]]), np.array([1, 3])
BIGRAM = recomputed(Trained(bigram, jnp.asarray(np.random.default_rng(0).normal(size=(5, 5)), jnp.float32), {}))


def test_prompts_are_continued_from_their_own_ends():
    decoder = recomputed(Trained(successor, {}, {}))
    for key in (None, jax.random.key(0)):
        found = jax.jit(lambda d, p, k=key: generate(d, p, lengths=LENGTHS, count=4, key=k))(decoder, PROMPTS)
        np.testing.assert_array_equal(found.tokens, [[4, 5, 6, 0], [3, 4, 5, 6]])
        np.testing.assert_array_equal(found.lengths, [4, 4])


def test_rows_end_early():
    options = dict(lengths=LENGTHS, count=5, end=6)
    found = jax.jit(lambda: generate(recomputed(Trained(successor, {}, {})), PROMPTS, **options))()
    np.testing.assert_array_equal(found.tokens, [[4, 5, 6, 6, 6], [3, 4, 5, 6, 6]])
    np.testing.assert_array_equal(found.lengths, [2, 3])


def test_the_loop_stops_when_all_rows_have_ended():
    steps = []

    def counted(params, stats, tokens, *, train=False):
        jax.debug.callback(lambda: steps.append(1))
        return successor(params, stats, tokens)

    options = dict(lengths=LENGTHS, count=50, end=6)
    jax.block_until_ready(jax.jit(lambda: generate(recomputed(Trained(counted, {}, {})), PROMPTS, **options))())
    jax.effects_barrier()
    assert len(steps) == 4  # of the longer row, the end token included


def test_samples_follow_the_distribution_and_the_temperature():
    def ones(value):
        prompts, lengths = jnp.zeros((64, 1), jnp.int32), jnp.ones(64, jnp.int32)
        rules, key = ((temperature(value),), jax.random.key(0)) if value else ((), None)
        decoder = recomputed(Trained(pair, {}, {}))
        found = jax.jit(lambda d: generate(d, prompts, lengths=lengths, count=64, rules=rules, key=key).tokens)(decoder)
        found = np.asarray(found)
        # Every token is drawn anew: no row is all ones (chance 1e-8 each).
        assert value != 1 or (found.min(1) == 0).all()
        return found.mean()

    assert abs(ones(1.0) - 0.75) < 0.03  # seven standard errors
    assert abs(ones(0.5) - 0.9) < 0.03  # 9 : 1
    assert ones(0.0) == 1


def test_a_sample_does_not_depend_on_the_other_rows():
    prompts, lengths = np.array([[1, 0], [2, 3], [4, 4], [1, 1]]), jnp.array([1, 2, 2, 1])
    sample = jax.jit(
        lambda p, n, rows: generate(BIGRAM, p, lengths=n, count=9, key=jax.random.key(1), rows=rows).tokens
    )
    together = sample(prompts, lengths, jnp.arange(4))
    assert (together[0] != together[3]).any()  # the same prompt in another row
    apart = sample(np.pad(prompts[2:3], ((0, 0), (0, 4))), lengths[2:3], jnp.array([2]))
    np.testing.assert_array_equal(apart[0], together[2])


def test_streaming_equals_generating():
    options = dict(lengths=LENGTHS, key=jax.random.key(1), end=2)
    whole = jax.jit(lambda: generate(BIGRAM, PROMPTS % 5, count=6, **options))()
    progress = jax.jit(lambda: begin(BIGRAM, PROMPTS % 5, room=6, **options))()
    columns = [progress.tokens]
    del options["lengths"]
    step = jax.jit(lambda progress: advance(BIGRAM, progress, **options))
    for _ in range(5):
        progress = step(progress)
        columns.append(progress.tokens)
    np.testing.assert_array_equal(np.stack(columns, 1), whole.tokens)
