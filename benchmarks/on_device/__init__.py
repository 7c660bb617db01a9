"""The stages of `python -m benchmarks.accelerator`: a module each, with a function `measure`.

Each runs in a process of its own, `python -m benchmarks.on_device MODULE ...`, which
benchmarks/accelerator.py starts, and ends at its limit. This module and those that it and that
process share, report.py and page.py, import no JAX: who starts the stages must not hold the device.
"""

BACKBONE = 'recurrent_unet'
"""The strongest network, of `taclnet_jax.models.MODELS`: measured beside the poster's."""

NETWORKS = ('convlstm', BACKBONE)
