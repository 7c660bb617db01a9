"""Volumes to train and evaluate on, and the windows cut from them."""

from __future__ import annotations

from typing import Any

from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError

DATASETS = ('synthetic', 'isbi12', 'isbi13', 'cremi')


def load_volume(config: Any) -> Volume:
    """Loads the volume that the configuration names.

    Args:
        config: a ConfigDict with `dataset` (one of `DATASETS`), `data_dir` and `prepared_dir`
            (folders, '' = unset) and, for the synthetic volume, `synthetic.seed` and
            `synthetic.shape`.

    Raises:
        InputError: an unknown data set, or its files are missing or unfit.
    """
    # Each data set's module is imported only when it is asked for: they are slow to import.
    if config.dataset == 'synthetic':
        from taclnet_jax.data.synthetic import synthetic_volume

        return synthetic_volume(config.synthetic.seed, tuple(config.synthetic.shape))
    if config.dataset == 'cremi':
        raise InputError(
            'This version reads the data sets synthetic, isbi12 and isbi13, not cremi yet; '
            'choose one of them with config.dataset.'
        )
    if config.dataset not in DATASETS:
        raise InputError(
            f'Expected config.dataset to be one of {", ".join(DATASETS)}, found {config.dataset!r}.'
        )
    if not config.data_dir:
        raise InputError(
            f'The data set {config.dataset} needs the folder of raw files: set config.data_dir or '
            'the environment variable TACLNET_DATA_DIR.'
        )
    if config.dataset == 'isbi12':
        from taclnet_jax.data.isbi12 import load_isbi12

        return load_isbi12(config.data_dir, config.prepared_dir or None)
    from taclnet_jax.data.isbi13 import load_isbi13

    return load_isbi13(config.data_dir)
