"""What this process may compute on."""

import os
import platform
from functools import cache

_YNNPACK = {
    'xla_cpu_experimental_ynn_fusion_type': (
        'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE'
    )
}
"""What XLA gives to YNNPACK, which by default has convolutions too."""


def available_cores() -> list[int]:
    """Their numbers; all of the machine's where the system does not tell."""
    linux = hasattr(os, 'sched_getaffinity')
    return sorted(os.sched_getaffinity(0)) if linux else list(range(os.cpu_count() or 1))


def hardware() -> str:
    """The devices of all processes, and the processor of this one."""
    import jax

    devices = jax.devices()
    if jax.default_backend() == 'cpu':
        cores = len(available_cores())
        return f'{len(devices)} CPU device(s), {cores} {platform.machine()} core(s)'
    return f'{len(devices)} x {devices[0].device_kind}'


@cache
def compiler_options() -> dict[str, str]:
    """XLA's, with which convolutions use all cores of a CPU; none where there is nothing to gain.

    YNNPACK, which takes them by default, divides one among cores only along rows of 320 pixels and
    more; Eigen, which takes them otherwise, is slower on a single core, and faster on two
    (docs/performance.md). Another version of XLA may not know the option: then it is left out.
    """
    import jax

    if jax.default_backend() != 'cpu' or len(available_cores()) == 1:
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=_YNNPACK).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return _YNNPACK
