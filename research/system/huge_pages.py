"""Memory in pages of 2 MB for a process that trains on CPU.

XLA's CPU client takes the temporary arrays of a step from the C library anew at every step, and they go back to the
kernel at its end. In pages of 4 KB a quarter of a ViT's or a GPT's step was the kernel's work of handing them out.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SETTING = "GLIBC_TUNABLES"
LARGE = "glibc.malloc.hugetlb=1"  # glibc 2.35 and later ask for large pages then; others do not look
POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def large_pages(env: Mapping[str, str] = os.environ):
    """Starts this program anew, before it has done anything, where that is what it takes to get large pages.

    That is so where Linux gives them to those who ask. Who has set GLIBC_TUNABLES, to nothing too, is left alone; so is
    a program under a debugger.
    """
    if SETTING in env or sys.gettrace() or not sys.executable:
        return
    try:
        asked = "[madvise]" in POLICY.read_text()
    except OSError:
        return
    if asked:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**env, SETTING: LARGE})
