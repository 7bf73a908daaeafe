"""How a training uses the processors of its machine: threads, and the memory that it gives back to itself."""

from __future__ import annotations

import ctypes
import os

import torch

# glibc's malloc.h: parameters of mallopt
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def set_threads(num_threads: int, world: int) -> None:
    """So many threads for this process; 0: the cores of the machine, shared out among its processes."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or world)  # torchrun's, DeepSpeed's
    torch.set_num_threads(num_threads or max(1, (os.cpu_count() or 1) // here))


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed for the next step, instead of asking the kernel for new pages every time.

    Every step of a training on a CPU allocates and frees the same large tensors; by default each costs a system call
    and a page fault for every 4 KiB. Returns whether it could be set: only glibc has mallopt.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 1 << 28))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings)
