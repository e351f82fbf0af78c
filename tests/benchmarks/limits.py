"""The parts of an LSTM's step alone, in XLA or in PyTorch: the section "Limits" of RESULTS.md has the figures.

    python -m tests.benchmarks.limits xla
    OMP_NUM_THREADS=1 python -m tests.benchmarks.limits torch

CPU time is comparable on a machine with other work; several threads of PyTorch would spin there.
"""

import statistics
import sys
import time

import numpy as np

from tests.benchmarks import works

WORK = works.work("lstm")
TIME, BATCH, WIDTH = WORK.sizes.length, WORK.sizes.batch, WORK.sizes.width
RNG = np.random.default_rng(0)
X, DZ = (RNG.normal(size=(TIME, BATCH, size)).astype(np.float32) for size in (WIDTH, 4 * WIDTH))
U = 0.01 * RNG.normal(size=(WIDTH, 4 * WIDTH)).astype(np.float32)


def xla():
    """{part: a function that computes it}, of one layer; the last is the floor's whole step."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from tests.benchmarks import floor

    def gates(z):
        def step(c, z):
            i, f, g, o = jnp.split(z, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return c, jax.nn.sigmoid(o) * jnp.tanh(c)

        return lax.scan(step, jnp.zeros((BATCH, WIDTH)), z)[1].sum()

    chained = lambda x, u: lax.scan(lambda h, _: ((h @ u)[:, :WIDTH], None), x[0], None, length=TIME)[0]
    back = lambda dz, u: lax.scan(lambda c, z: (c + (z + c[:, :1]) @ u.T, None), jnp.zeros((BATCH, WIDTH)), dz)[0]
    kernel = lambda x, dz: lax.scan(lambda s, xz: (s + xz[0].T @ xz[1], None), jnp.zeros(U.shape), (x, dz))[0]
    made = [(chained, X, U), (back, DZ, U), (kernel, X, DZ), (jax.grad(gates), DZ)]
    arguments = [(jax.jit(function), jax.device_put(arrays)) for function, *arrays in made]
    calls = [lambda f=f, arrays=arrays: jax.block_until_ready(f(*arrays)) for f, arrays in arguments]
    state, batch, step = floor.placed(WORK)

    def whole():
        nonlocal state
        state = jax.block_until_ready(step(state, batch)[0])

    return dict(
        zip(("h U", "dz U^T", "h^T dz", "gates and their gradient", "whole step"), (*calls, whole), strict=True)
    )


def torch():
    """The same in PyTorch, whose gates cannot be called alone."""
    import torch

    from tests.benchmarks import torch_twin

    torch.manual_seed(0)
    x, dz, u = map(torch.from_numpy, (X, DZ, U))

    def chained():
        h = x[0]
        for _ in range(TIME):
            h = (h @ u)[:, :WIDTH]

    def back():
        c = torch.zeros(BATCH, WIDTH)
        for z in dz:
            c = c + (z + c[:, :1]) @ u.T

    def kernel():
        return x.reshape(-1, WIDTH).T @ dz.reshape(-1, 4 * WIDTH)

    model = torch_twin.module_of(WORK).train()
    tokens, labels = (torch.from_numpy(WORK.batch[name]) for name in "xy")
    optimizer = torch_twin.optimizer_of(WORK, [p for p in model.parameters() if p.requires_grad], fused=True)

    def whole():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(tokens).flatten(0, -2), labels.long().flatten()).backward()
        optimizer.step()

    return {"h U": chained, "dz U^T": back, "h^T dz": kernel, "whole step": whole}


def main(framework: str, rounds: int = 5):
    """Print the least and the median CPU time of each part, in ms; the parts take turns."""
    parts = {"xla": xla, "torch": torch}[framework]()
    taken = {name: [] for name in parts}
    for number in range(rounds + 1):  # the first compiles
        for name, call in parts.items():
            began = time.process_time()
            call()
            taken[name] += [1e3 * (time.process_time() - began)] if number else []
    for name, found in taken.items():
        print(f"{framework} {name:25} least {min(found):7.1f} median {statistics.median(found):7.1f} ms", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
