"""Compiled programs are kept between processes, in a folder of the user's, up to a limit."""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from research.system.provenance import instructions, processor

SETTING = "RESEARCH_COMPILATION_CACHE"
LIMIT = 2 * 2**30  # bytes, of all programs together
SHORTEST = 0.1  # seconds; what compiles faster is not kept


def keep_compiled(env: Mapping[str, str] = os.environ) -> Path | None:
    """Has JAX keep what it compiles, and find again what an earlier process compiled; gives the folder.

    The folder is $RESEARCH_COMPILATION_CACHE, else `research/compiled` in the user's cache folder; `off` turns it off,
    and where JAX was given a folder of its own (JAX_COMPILATION_CACHE_DIR), that is left alone: then the result is
    None. Of programs beyond `LIMIT` the ones that were not used for longest are deleted.
    """
    import jax

    given = env.get(SETTING, "")
    if given == "off" or jax.config.jax_compilation_cache_dir:
        return None
    try:
        home = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        root = Path(given).expanduser() if given else home / "research" / "compiled"
        # Programs for CPU use what this processor can do, and a home folder may be shared with hosts that cannot.
        folder = root / hashlib.sha256(f"{processor()} {instructions()}".encode()).hexdigest()[:8]
        folder.mkdir(parents=True, exist_ok=True)
        _shrink(root, LIMIT)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return None  # compiling anew is only slower
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
    return folder


def _shrink(root, limit):
    """Deletes the files that were not read for longest, until those that are left are within `limit` bytes."""
    found = []
    for path in Path(root).rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process shrinks it too
            if path.is_file():
                known = path.stat()
                found.append((max(known.st_atime, known.st_mtime), known.st_size, path))
    left = sum(size for _, size, _ in found)
    for _, size, path in sorted(found, key=lambda one: one[0]):
        if left <= limit:
            return
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        left -= size
