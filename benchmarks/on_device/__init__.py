"""The stages of `python -m benchmarks.accelerator`: a module each, with a function `measure`.

Each runs in a process of its own, `python -m benchmarks.on_device MODULE ...`, which
benchmarks/accelerator.py starts, and ends at its limit. This module and those that it and that
process share, report.py and page.py, import no JAX: who starts the stages must not hold the device.
"""

from taclnet_jax.config import flagship_config, get_config

NETWORKS = ('convlstm', 'flagship')
"""The poster's, and the one that does best (`taclnet_jax.config.flagship_config`)."""

PRECISIONS = ('float32', 'bfloat16')


def networks(quick: bool) -> tuple[str, ...]:
    """Those that are measured; in rehearsals one, as compiling takes most of their time."""
    return NETWORKS[-1:] if quick else NETWORKS


def precisions(quick: bool) -> tuple[str, ...]:
    """Those that are measured; in rehearsals one, likewise."""
    return PRECISIONS[:1] if quick else PRECISIONS


def network_settings(network: str, quick: bool) -> dict[str, object]:
    """What `benchmarks.step.training_of` takes for a network; for rehearsals a small one."""
    model = (flagship_config() if network == 'flagship' else get_config()).model
    small = {'hidden': (4,), 'features': (4, 8), 'iterations': 1} if quick else {}
    return {f'model__{name}': value for name, value in {**model, **small}.items()}
