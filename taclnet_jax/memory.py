"""Memory that is no longer used, and still this process'."""

import ctypes
import sys


def give_back() -> None:
    """Gives freed memory back to the system, which glibc keeps; elsewhere nothing happens.

    To be called after XLA has compiled: hundreds of MB that this took would stay with the process,
    and steps, whose arrays are large ones, would not use them (docs/performance.md).
    """
    if sys.platform == 'linux':
        trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # musl has none
        if trim is not None:
            trim(0)
