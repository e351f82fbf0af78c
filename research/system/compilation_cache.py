"""A persistent cache of compiled programs in the user's cache folder, limited in size."""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from research.system.provenance import instructions, processor

SETTING = "RESEARCH_COMPILATION_CACHE"
LIMIT = 2 * 2**30  # total bytes of the cache
SHORTEST = 0.1  # seconds; programs that compile faster are not cached


def keep_compiled(env: Mapping[str, str] = os.environ) -> Path | None:
    """Enable JAX's persistent compilation cache and return its folder, or None if it stays off.

    The root is $RESEARCH_COMPILATION_CACHE, or `research/compiled` in the user's cache folder; each type of processor
    has a subfolder. The value `off` disables the cache. An existing setting of JAX (JAX_COMPILATION_CACHE_DIR) stays
    unchanged. Both cases return None, as does a folder that cannot be created. If the cache exceeds `LIMIT`, the least
    recently used programs are deleted.
    """
    import jax

    setting = env.get(SETTING, "")
    if setting == "off" or jax.config.jax_compilation_cache_dir:
        return None
    try:
        home = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        root = Path(setting).expanduser() if setting else home / "research" / "compiled"
        # Trap: CPU programs use this processor's instructions; a home folder shared between hosts may reach others.
        folder = root / hashlib.sha256(f"{processor()} {instructions()}".encode()).hexdigest()[:8]
        folder.mkdir(parents=True, exist_ok=True)
        _shrink(root, LIMIT)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return None  # training works without the cache, only slower
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
    return folder


def _shrink(root, limit):
    """Delete the least recently used files until the folder is within `limit` bytes."""
    files = []
    for path in Path(root).rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process may delete files at the same time
            if path.is_file():
                stat = path.stat()
                files.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files, key=lambda file: file[0]):
        if total <= limit:
            return
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        total -= size
