"""Provenance of a result: software versions, hardware, and the state of the repository."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from research.system.allocator import SETTING

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets", "research")
VECTORS = {"amx_tile": "AMX", "avx512_bf16": "AVX-512 with bf16", "avx512f": "AVX-512", "avx2": "AVX2"}


def versions() -> dict[str, str]:
    """Return the versions of Python and of those installed libraries that can change a result."""
    return {"python": platform.python_version(), **_installed()}


@functools.cache  # it reads each library's metadata, and a run asks three times
def _installed():
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def hardware() -> dict[str, Any]:
    """Describe the devices, the processor, the memory (GiB) and the allocator's settings (GLIBC_TUNABLES)."""
    import jax

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "devices": jax.device_count(),
        "device": jax.devices()[0].device_kind,
        "processes": jax.process_count(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "allocator": os.environ.get(SETTING, ""),
    }


def processor() -> str:
    """Return the processor's model name and its widest vector instructions, as in "AMD EPYC, AVX2"."""
    info = _cpuinfo()
    name = info.get("model name", "") or platform.processor()
    # Trap: virtual machines may report one name for all generations, which differ in speed by a factor of three.
    flags = info.get("flags", "").split()
    widest = next((vectors for flag, vectors in VECTORS.items() if flag in flags), "")
    return ", ".join(filter(None, (name, widest)))


def instructions() -> str:
    """Return the processor's instruction set flags, as listed by the kernel; empty if unavailable."""
    info = _cpuinfo()
    return info.get("flags") or info.get("Features", "")


def _cpuinfo() -> dict[str, str]:
    """Read the first processor's entry of /proc/cpuinfo; empty if there is none."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.split("\n"))}


# Files, and words in changed lines, that may hold a secret; only the sources of a run may have them.
SECRET_FILES = ".* .*/** *secret* *token* *passw* *credential* *private* *api?key* *.pem *.key id_*".split()
SECRET_WORDS = re.compile(rb"secret|token|passw|credential|(?:api|private|access).?key", re.IGNORECASE)
GIT = 20  # seconds for a command of git, which may hang on a network disk


def git_state(folder, files=()) -> tuple[str, bytes]:
    """Return the commit of the repository at `folder`, and its uncommitted changes.

    Both are empty without git, without a commit, or if git hangs. The changes are those of `files`, of this library and
    of files without Python code, such as configurations. Other Python files cannot change the run. Hidden files, such
    as `.env`, files with a name like a secret's and changes with such a word are left out. The changes are a plain
    patch, independent of the user's git settings. They are bytes, because the files may have any encoding.
    """

    def git(*args):
        command = ["git", "-C", str(folder), *args]
        process = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=GIT)
        return process.stdout if process.returncode == 0 else b""

    try:
        commit = git("rev-parse", "HEAD").decode(errors="replace").strip()
        root = os.fsdecode(git("rev-parse", "--show-toplevel")).strip()
        library = Path(__file__).resolve().parents[1]
        found = [path for path in (Path(file).resolve() for file in files) if path.is_relative_to(root or "/")]
        paths = [f":(literal){path}" for path in found]
        paths += [f":(glob){library}/**/*.py"] if root and library.is_relative_to(root) else []
        diff = functools.partial(git, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD", "--")
        others = diff(":(top)", *(f":(top,exclude,glob,icase)**/{name}" for name in ["*.py", *SECRET_FILES]))
        parts = re.split(rb"(?m)^(?=diff --git )", others)
        kept = [b"" if SECRET_WORDS.search(part) else part for part in parts]
        return commit, (diff(*paths) if paths else b"") + b"".join(kept)
    except (OSError, subprocess.TimeoutExpired):
        return "", b""
