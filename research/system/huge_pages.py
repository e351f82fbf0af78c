"""2 MB memory pages (huge pages) for a process that trains on CPU.

XLA's CPU client allocates the temporary arrays of every step through the C library and returns them to the kernel
afterwards. With 4 KB pages, the kernel spent a quarter of a ViT or GPT step on page allocation.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SETTING = "GLIBC_TUNABLES"
LARGE = "glibc.malloc.hugetlb=1"  # requests huge pages with glibc 2.35 or later; ignored by others
POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def large_pages(env: Mapping[str, str] = os.environ):
    """Restart this program with huge pages if Linux provides them on request only (policy `madvise`).

    Call it before the program does any work. It does nothing if GLIBC_TUNABLES is set, even to an empty value, or under
    a debugger.
    """
    if SETTING in env or sys.gettrace() or not sys.executable:
        return
    try:
        on_request = "[madvise]" in POLICY.read_text()
    except OSError:
        return
    if on_request:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**env, SETTING: LARGE})
