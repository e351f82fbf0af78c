"""Four CPU devices stand in for an accelerator host; compiled programs are kept between runs; shapes are checked.

Most of the suite's time would be compilation of programs that run once, so XLA optimises little: about a third of the
time, and the same numbers to rounding. Compiled programs are dropped after each file, which bounds the memory.

Every annotation of the array functions in `research/` is checked at each call: shapes by jaxtyping, other types by
beartype. A wrong one is a red test. The commands that tests start as processes are not checked.
"""

import functools
import gc
import importlib.metadata
import os
import sys
import threading
import types
from pathlib import Path

import pytest

# Before anything imports JAX, which reads them then. Processes that tests start inherit them.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "research" / "tests"))
os.environ.setdefault("RESEARCH_STATE", str(Path.home() / ".cache" / "research" / "tests-state"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA would split each program into parts for up to 32 threads. Two workers fill two cores, and the splitting costs a
# third more.
FLAGS = ["--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jax").startswith("0.10."):  # later ones refuse this flag
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")])

gc.set_threshold(100_000, 50, 50)  # tracing makes many objects and few cycles

import jax  # noqa: E402
from jax._src.interpreters import mlir  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

from tests.checked import checked  # noqa: E402

ARRAYS = (
    "augment core fields gradients layers losses metrics model models objectives optim privacy rl robust technique "
    "tree wrappers"
)
# The hook finds the checker by name whenever a module is imported. Not below `tests`: a run's copy of an experiment
# there takes that package's place.
sys.modules["shape_checker"] = types.ModuleType("shape_checker")
sys.modules["shape_checker"].checked = checked
install_import_hook([f"research.{name}" for name in ARRAYS.split()], "shape_checker.checked")


# JAX loads all dialects of MLIR anew for each program. That is half of the time of a small program from the cache; the
# programs of a test file share one context in each thread, since a context is not made for two at once.
context_of = functools.cache(lambda thread, make=mlir.make_ir_context: make())
mlir.make_ir_context = lambda: context_of(threading.get_ident())


SLOW_FILES = (
    "test_breaker test_experiments test_job test_loop test_benchmarks test_verbs test_cached test_splits "
    "test_speculative test_doctor test_before test_readme test_sharding test_sweep test_accountant test_study "
    "test_acting test_map_records test_prefetch test_decoders test_label_review test_reproduce test_pmap test_finetune"
).split()


def pytest_collection_modifyitems(items):
    """The slowest files come first, so that no worker is left alone with one at the end."""
    place = {name: number for number, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Drops what a test file compiled: over the whole suite it would be gigabytes."""
    yield
    jax.clear_caches()
    context_of.cache_clear()


@pytest.fixture(scope="module")
def one_device():
    """As on a laptop. Four devices that share two cores can starve one another at a collective."""
    first = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda *_: first)
        yield


@pytest.fixture
def optimised():
    """XLA's optimisations, for a test that compares different programs bit for bit."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1")
