"""The stages of `python -m benchmarks.accelerator`: a module each, with a function `measure`.

Each runs in a process of its own, `python -m benchmarks.on_device MODULE ...`, which
benchmarks/accelerator.py starts, and ends at its limit. This module and those that it and that
process share, report.py and page.py, import no JAX: who starts the stages must not hold the device.
"""

BACKBONE = 'recurrent_unet'
"""The strongest network, of `taclnet_jax.models.MODELS`: measured beside the poster's."""

NETWORKS = ('convlstm', BACKBONE)
PRECISIONS = ('float32', 'bfloat16')


def networks(quick: bool) -> tuple[str, ...]:
    """Those that are measured; in rehearsals one, as compiling takes most of their time."""
    return NETWORKS[-1:] if quick else NETWORKS


def precisions(quick: bool) -> tuple[str, ...]:
    """Those that are measured; in rehearsals one, likewise."""
    return PRECISIONS[:1] if quick else PRECISIONS


def network_settings(network: str, quick: bool) -> dict[str, object]:
    """What `benchmarks.step.training_of` takes for a network; for rehearsals a small one."""
    small = {'model__hidden': (4,), 'model__features': (4, 8)}
    return {'model__name': network, **(small if quick else {})}
