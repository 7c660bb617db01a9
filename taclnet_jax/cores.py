"""What this process may compute on."""

import os
import platform


def available_cores() -> list[int]:
    """Their numbers; all of the machine's where the system does not tell."""
    linux = hasattr(os, 'sched_getaffinity')
    return sorted(os.sched_getaffinity(0)) if linux else list(range(os.cpu_count() or 1))


def hardware() -> str:
    """The devices and the processor that this process computes on."""
    import jax

    devices = jax.local_devices()
    if jax.default_backend() == 'cpu':
        cores = len(available_cores())
        return f'{len(devices)} CPU device(s), {cores} {platform.machine()} core(s)'
    return f'{len(devices)} x {devices[0].device_kind}'
