"""Every setting, its meaning and its default. Files in `configs/` change what a run needs."""

from __future__ import annotations

import os
from typing import Any

from ml_collections import ConfigDict

from taclnet_jax.errors import InputError


def get_config() -> ConfigDict:
    """The default configuration: TACLNet as the poster has it, on the synthetic volume."""
    config = ConfigDict()
    # Everything random follows from it: parameters, order of samples, augmentation.
    config.seed = 0

    # Data: synthetic, isbi12, isbi13 or cremi.
    config.dataset = 'synthetic'
    # Folder of the raw files, which holds isbi12/ and so on.
    config.data_dir = os.environ.get('TACLNET_DATA_DIR', '')
    # Where prepared data sets are kept; '' is tensorflow-datasets' own folder.
    config.prepared_dir = ''
    config.synthetic = ConfigDict({'shape': (24, 256, 256), 'seed': 0})
    # Contiguous thirds of the sections: the third to test on, 1 to 3.
    config.fold = 3
    # The last training sections, held out to choose the best checkpoint: at least a window, or
    # none (0: the last checkpoint is taken).
    config.validation_sections = 3
    # Sections in a window (l): 1, 3 or 5. The target is the middle one.
    config.slices = 3
    # Training crops in pixels, on a fixed grid over each section.
    config.crop = (156, 156)
    # Windows in a step, over all devices.
    config.batch_size = 10
    config.augment = ConfigDict(
        {
            'symmetries': True,  # flips and rotations
            'reverse_z': True,
            'gain': 0.1,
            'offset': 0.1,
            'gamma': 0.2,
            'shift': True,  # crops move off their grid; in phase one only
        }
    )

    config.model = ConfigDict(
        {
            'name': 'convlstm',
            'hidden': (16, 8),  # channels of the layers before the last, which has one a section
            'kernel': 3,
        }
    )
    # Of the network's arithmetic: float32 or bfloat16. Topology and attention are in float32.
    config.precision = 'float32'

    config.attention = ConfigDict(
        {
            # In phase two: none (plain network), sta, or ita (STA and ITA: TACLNet).
            'kind': 'ita',
            'alpha': 1.0,  # weight of the attention o in P_hat
            'beta': 0.5,  # weight of the epoch before in ITA
            'sigma': 1.0,  # of the critical maps' Gaussian, pixels
            'min_persistence': 0.1,
            'border': 'membrane',  # membrane or open: what the window's frame counts as
            'backend': 'gudhi',  # gudhi (host callback) or xla (on the device)
        }
    )

    # cross_entropy or cross_entropy_dice (their sum with the soft Dice loss).
    config.loss = 'cross_entropy'
    config.optimizer = ConfigDict({'name': 'rmsprop', 'decay': 0.99, 'weight_decay': 0.0})
    # Phase one: the network alone, loss over all slices. Schedules: constant, halving, cosine.
    config.phase_one = ConfigDict(
        {'epochs': 350, 'learning_rate': 1e-3, 'schedule': 'halving', 'halve_every': 50}
    )
    # Phase two: loss of P_hat (of P without attention) at the target, at a constant rate.
    config.phase_two = ConfigDict({'epochs': 15, 'learning_rate': 1e-5})
    # A run of the same phase one to go on from: its <workdir>/checkpoints/phase_one.
    config.start_from = ''

    config.checkpoint = ConfigDict(
        {
            'every_epochs': 1,
            'keep': 3,
            # Of the validation sections; the best checkpoint of the last phase is kept as well.
            'best_metric': 'voi',
        }
    )
    config.evaluate = ConfigDict(
        {
            'every_epochs': 1,  # validation during training
            # Where P (or P_hat) is membrane; 'fixed', or chosen on 'training' sections.
            'threshold': 0.5,
            'threshold_from': 'fixed',
            'betti_patch': 64,
            'betti_patches': 100,
            'betti_seed': 0,
            'picture_every': 4,  # test sections
        }
    )
    return config


# Where files lie and how results are shown may differ between the calls of one run.
FREE_KEYS = ('data_dir', 'prepared_dir', 'start_from', 'evaluate', 'checkpoint')

_CHOICES = {
    'slices': (1, 3, 5),
    'fold': (1, 2, 3),
    'precision': ('float32', 'bfloat16'),
    'loss': ('cross_entropy', 'cross_entropy_dice'),
    'model.name': ('convlstm',),
    'attention.kind': ('none', 'sta', 'ita'),
    'attention.border': ('membrane', 'open'),
    'attention.backend': ('gudhi', 'xla'),
    'optimizer.name': ('rmsprop', 'adamw'),
    'phase_one.schedule': ('constant', 'halving', 'cosine'),
    'checkpoint.best_metric': ('dice', 'dice_membrane', 'ari', 'voi', 'betti_error'),
    'evaluate.threshold_from': ('fixed', 'training'),
}
# (lowest, highest) value, both allowed.
_RANGES = {
    'batch_size': (1, None),
    'validation_sections': (0, None),
    'model.kernel': (1, None),
    'attention.alpha': (0, None),
    'attention.beta': (0, 1),
    'attention.sigma': (1e-3, None),
    'attention.min_persistence': (0, 1),
    'phase_one.epochs': (0, None),
    'phase_one.halve_every': (1, None),
    'phase_one.learning_rate': (0, None),
    'phase_two.epochs': (0, None),
    'phase_two.learning_rate': (0, None),
    'checkpoint.every_epochs': (1, None),
    'checkpoint.keep': (1, None),
    'evaluate.every_epochs': (1, None),
    'evaluate.threshold': (0, 1),
    'evaluate.betti_patch': (1, None),
    'evaluate.betti_patches': (1, None),
    'evaluate.picture_every': (1, None),
}


def check_config(config: ConfigDict) -> None:
    """Refuses settings that cannot work.

    Raises:
        InputError: names the setting, its value and what is allowed.
    """
    flat = flatten(config)
    for key, allowed in _CHOICES.items():
        if flat[key] not in allowed:
            choices = ', '.join(map(str, allowed))
            raise InputError(f'Expected config.{key} to be one of {choices}; found {flat[key]!r}.')
    for key, (low, high) in _RANGES.items():
        if not low <= flat[key] <= (float('inf') if high is None else high):
            bounds = f'{low} or more' if high is None else f'from {low} to {high}'
            raise InputError(f'Expected config.{key} to be {bounds}; found {flat[key]}.')
    if config.model.kernel % 2 == 0:
        raise InputError(f'Expected config.model.kernel to be odd; found {config.model.kernel}.')
    if config.phase_one.epochs + config.phase_two.epochs == 0:
        raise InputError(
            'Expected at least one epoch in config.phase_one.epochs or config.phase_two.epochs; '
            'found none.'
        )


def flatten(config: Any, prefix: str = '') -> dict[str, Any]:
    """The settings as {'phase_one.epochs': 350, ...}, tuples as lists (as JSON has them)."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict | ConfigDict):
            flat |= flatten(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def differences(config: Any, other: Any) -> list[str]:
    """Lines 'key: one value, other value' of the settings in which two runs differ for good."""
    one, two = flatten(config), flatten(other)
    return [
        f'{key}: {one.get(key, "unset")} here, {two.get(key, "unset")} there'
        for key in sorted(one.keys() | two.keys())
        if key.split('.')[0] not in FREE_KEYS and one.get(key) != two.get(key)
    ]
