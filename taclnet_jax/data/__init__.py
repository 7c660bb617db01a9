"""Volumes to train and evaluate on, and the windows cut from them."""

import importlib

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data.volume import Volume

DATA_SETS = {
    'synthetic': 'taclnet_jax.data.synthetic',
    'isbi12': 'taclnet_jax.data.isbi12',
    'isbi13': 'taclnet_jax.data.isbi13',
    'cremi': 'taclnet_jax.data.cremi',
    'custom': 'taclnet_jax.data.custom',
}
"""By name the module whose `load(settings)` makes the volume. They are slow to import, so that each
is imported when it is asked for."""


def load_volume(settings: DataSettings) -> Volume:
    """The volume that the settings name, at its own resolution.

    Raises:
        InputError: the volume's files are missing or unfit.
    """
    volume: Volume = importlib.import_module(DATA_SETS[settings.dataset]).load(settings)
    return volume.only(*settings.sections) if settings.sections else volume


def training_volume(volume: Volume, downsample: int) -> Volume:
    """The volume as the network sees it: at half resolution where `downsample` is 2.

    Scores are those of the volume itself, to which predictions are interpolated back.
    """
    if downsample == 1:
        return volume
    from taclnet_jax.data.resolution import halved

    return halved(volume)
