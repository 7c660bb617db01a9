"""Volumes to train and evaluate on, and the windows cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Samples, grid_samples, labelled_samples


def load_volume(config: Any) -> Volume:
    """Loads the volume that the configuration names, at its own resolution.

    Args:
        config: as `taclnet_jax.config.get_config` makes it; `dataset` chooses.

    Raises:
        InputError: the volume's files are missing or unfit.
    """
    # Each data set's module is imported only when it is asked for: they are slow to import.
    if config.dataset == 'synthetic':
        from taclnet_jax.data.synthetic import synthetic_volume

        return synthetic_volume(config.synthetic.seed, tuple(config.synthetic.shape))
    if config.dataset == 'custom':
        from taclnet_jax.data.custom import load_custom

        return load_custom(config)
    return _load_published(config)


def training_volume(config: Any, volume: Volume) -> Volume:
    """The volume as the network sees it: at half resolution where `config.downsample` is 2.

    Scores are those of the volume itself, to which predictions are interpolated back.
    """
    if config.downsample == 1:
        return volume
    from taclnet_jax.data.resolution import halved

    return halved(volume)


def training_samples(config: Any, volume: Volume, runs: Sequence[range]) -> Samples:
    """The crops that a run trains on; their indices are the sample ids of its ITA memory.

    Args:
        config: as `load_volume` takes it.
        volume: of `training_volume`.
        runs: its training sections.
    """
    crop, limit = tuple(config.crop), config.crops_limit
    return labelled_samples(volume, grid_samples(runs, volume.shape[1:], crop, limit, config.seed))


def _load_published(config: Any) -> Volume:
    folders: dict[str, Any] = {
        'data_dir': config.data_dir or None,
        'prepared_dir': config.prepared_dir or None,
        'mirror': config.mirror,
    }
    if config.dataset == 'isbi12':
        from taclnet_jax.data.isbi12 import load_isbi12

        return load_isbi12(**folders)
    options: dict[str, Any] = {
        'membrane_dilation_px': config.membrane_dilation_px,
        'unlabelled_beyond_px': config.unlabelled_beyond_px,
        'cache_mb': config.cache_mb,
    }
    if config.dataset == 'isbi13':
        from taclnet_jax.data.isbi13 import load_isbi13

        return load_isbi13(**folders, **options)
    from taclnet_jax.data.cremi import load_cremi

    return load_cremi(**folders, **options, samples=config.cremi.samples)
