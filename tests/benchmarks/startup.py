"""Start-up: a step is a fresh process, from its launch to the end of its first training step (and of the process)."""

import os
import subprocess
import sys
import tempfile

from tests.benchmarks import works
from tests.benchmarks.turns import Gate, serve, turns

# Everything that an experiment's file and the command line import from elsewhere.
IMPORTS = "import numpy, optax, flax.nnx, orbax.checkpoint, rich, jax\n"
FLOOR = """
from tests.benchmarks import floor, works
state, batch, compiled = floor.placed(works.work({spec!r}))
jax.block_until_ready(compiled(state, batch))
"""
OURS = """
import research.verbs
from tests.benchmarks import ours, works

class Once:
    facts, left = {{}}, 1
    def turn(self, **_):
        self.left -= 1
        return self.left + 1

ours.train(works.work({spec!r}), Once())
"""


def program(work: works.Work, gate: Gate, *, code: tuple[str, ...], cache: bool):
    """Runs `python` with these arguments, with a compilation cache that is warm or with none."""
    gate.facts["warm"] = work.kind != "startup-cold"
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "1" if cache else "0"}
    with tempfile.TemporaryDirectory() as folder:
        if cache:
            environment |= {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        spec = "mlp@" + ",".join(f"{name}={value}" for name, value in vars(work.sizes).items())
        filled = [part.format(spec=spec) for part in code]

        def one():
            subprocess.run([sys.executable, *filled], env=environment, check=True, stdout=subprocess.DEVNULL)

        turns(gate, one, wait=lambda _: None)


if __name__ == "__main__":

    def contender(first, helped):
        """Of `help`, the arguments `helped`; else the program `first`, with a cache where the work says so."""

        def run(work, gate):
            code = helped if work.kind == "help" else ("-c", first)
            program(work, gate, code=code, cache=work.kind == "startup-warm")

        return run

    bare = ("-c", "import jax")
    serve(
        {
            "ours": contender(OURS, ("-m", "research", "--help")),
            "floor": contender(IMPORTS + FLOOR, bare),
            "bare": contender("import jax" + FLOOR, bare),
        }
    )
