"""What a number can depend on besides the experiment: the software, the machine, the state of the repository."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets", "research")
VECTORS = {"amx_tile": "AMX", "avx512_bf16": "AVX-512 with bf16", "avx512f": "AVX-512", "avx2": "AVX2"}


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that a number can depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def hardware() -> dict[str, Any]:
    """The devices, the processor and the memory of this machine."""
    import jax

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "devices": jax.device_count(),
        "device": jax.devices()[0].device_kind,
        "processes": jax.process_count(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
    }


def processor() -> str:
    """The model of the processor, as its maker names it, and the widest vectors that it computes with."""
    known = _cpuinfo()
    name = known.get("model name", "") or platform.processor()
    # A virtual machine may name every generation of a maker alike, and the same program is three times slower on one.
    can = known.get("flags", "").split()
    widest = next((shown for flag, shown in VECTORS.items() if flag in can), "")
    return ", ".join(filter(None, (name, widest)))


def instructions() -> str:
    """All that the processor can do, as the kernel lists it; empty where it does not tell."""
    known = _cpuinfo()
    return known.get("flags") or known.get("Features", "")


def _cpuinfo() -> dict[str, str]:
    """What Linux tells of the first processor."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.split("\n"))}


def git_state(folder) -> tuple[str, bytes]:
    """The commit, and the difference of the working tree to it; empty if there is no git or no commit.

    The difference is a patch whatever the user's settings are, and bytes: a file in it may have any encoding.
    """

    def git(*args):
        done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else b""

    try:
        return git("rev-parse", "HEAD").decode().strip(), git("diff", "--no-color", "--no-ext-diff", "HEAD")
    except OSError:
        return "", b""
