"""The processor cores that this process may use."""

import os


def available_cores() -> list[int]:
    """Their numbers; all of the machine's where the system does not tell."""
    linux = hasattr(os, 'sched_getaffinity')
    return sorted(os.sched_getaffinity(0)) if linux else list(range(os.cpu_count() or 1))
