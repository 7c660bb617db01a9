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

    # Data: synthetic, isbi12, isbi13, cremi or custom (your own volume).
    config.dataset = 'synthetic'
    # Folder of the raw files, which holds isbi12/ and so on; what is missing is downloaded there.
    # '' is a folder of tensorflow-datasets.
    config.data_dir = os.environ.get('TACLNET_DATA_DIR', '')
    # Web address of such a folder, to download from instead of the publishers.
    config.mirror = ''
    # Where prepared data sets are kept; '' is tensorflow-datasets' own folder.
    config.prepared_dir = ''
    config.synthetic = ConfigDict(
        {
            'shape': (24, 256, 256),  # sections, height, width
            'seed': 0,  # another one, another tissue
        }
    )
    config.cremi = ConfigDict(
        {
            'samples': ('A', 'B', 'C'),  # laid end to end; each is split into folds by itself
        }
    )
    # Your own volume: TIFF stack, folder of PNG or TIFF sections, HDF5, zarr, N5 or Neuroglancer
    # precomputed. Of HDF5, zarr and N5 name the dataset inside as well.
    config.custom = ConfigDict(
        {
            'image': '',
            'image_dataset': '',
            'labels': '',
            'labels_dataset': '',
            # ids (instances, 0 = none), membrane (above 0 = membrane) or interior (0 = membrane).
            'label_kind': 'ids',
            # Optional mask of the image's size, above 0 = neither train nor score there.
            'ignore': '',
            'ignore_dataset': '',
            # Ids that stand for "not labelled", treated the same.
            'ignore_ids': (),
            # Voxel size (z, y, x); () takes what the file says.
            'resolution_nm': (),
        }
    )
    # Where labels are instance ids, borders between them are membranes, dilated by so much ...
    config.membrane_dilation_px = 1
    # ... and id 0 farther than this from every id is unlabelled tissue; 0: all of it is membrane.
    config.unlabelled_beyond_px = 0
    # 2: the network sees half the resolution in y and x; scores are those of the whole.
    config.downsample = 1
    # Memory for sections of volumes that are read from disk while training.
    config.cache_mb = 2000
    # Contiguous thirds of the sections: the third to test on, 1 to 3.
    config.fold = 3
    # The last training sections, held out to choose the best checkpoint: at least a window, or
    # none (0: the last checkpoint is taken).
    config.validation_sections = 3
    # Sections in a window (l): 1, 3 or 5. The target is the middle one.
    config.slices = 3
    # Training crops in pixels, on a fixed grid over each section.
    config.crop = (156, 156)
    # At most so many of them, drawn once from all over the volume; 0 = all.
    config.crops_limit = 0
    # Draw crops with little and with much membrane equally often.
    config.crops_balanced = False
    # Windows in a step, over all devices.
    config.batch_size = 10
    # Of each window anew. 'dark', 'blur' and 'noise' are probabilities for each section, 'missing',
    # 'misaligned' and 'elastic' for a window; strengths are drawn from half the given one up to it.
    # What moves the target's pixels in ways that the ITA memory cannot undo, 'shift' and 'elastic',
    # is for phase one only; flips and rotations are undone, and misaligned sections move about the
    # target. See them: python -m taclnet_jax.tools.show_augmentations --config=...
    config.augment = ConfigDict(
        {
            'symmetries': True,  # flips and rotations
            'reverse_z': True,  # sections in reverse order
            'gain': 0.1,  # contrast
            'offset': 0.1,  # brightness, in standard deviations of the section
            'gamma': 0.2,  # powers from 1 / 1.2 to 1.2 of the grey values
            'dark': 0.05,  # a section darker and of less contrast
            'dark_strength': 0.5,
            'blur': 0.05,
            'blur_px': 1.0,  # sigma
            'noise': 0.05,
            'noise_strength': 0.3,  # in standard deviations of the section
            'missing': 0.02,  # a section blank, whole or on one side of a line
            'misaligned': 0.05,  # a section, or all after it, displaced in its plane
            'misaligned_px': 8,
            'shift': True,  # crops move off their grid
            'elastic': 0.0,  # try 0.5 on long schedules
            'elastic_px': 8.0,  # at most a quarter of the spacing
            'elastic_spacing_px': 48,
        }
    )

    config.model = ConfigDict(
        {
            # convlstm (the poster's), recurrent_unet, unet, dive or mosinska
            'name': 'convlstm',
            # convlstm: channels of the layers before the last, which has one a section; kernels.
            'hidden': (16, 8),
            'kernel': 3,
            # The others: channels of each level, () = the model's own default; group normalisation.
            'features': (),
            'normalise': True,
            # mosinska: how often the U-Net refines its prediction.
            'iterations': 3,
        }
    )
    # Of the network's arithmetic: float32 or bfloat16. Topology and attention are in float32.
    config.precision = 'float32'

    config.attention = ConfigDict(
        {
            # In phase two: none (plain network), sta, or ita (STA and ITA: TACLNet).
            'kind': 'ita',
            # The loss of phase two: refined (of P_hat, the poster's), straight_through (of P_hat,
            # with a derivative where it is clipped), both (of P and P_hat) or weighted (of P, more
            # where o is high).
            'form': 'refined',
            'alpha': 1.0,  # weight of the attention o in P_hat
            'beta': 0.5,  # weight of the epoch before in ITA
            'sigma': 1.0,  # of the critical maps' Gaussian, pixels
            'min_persistence': 0.1,  # of the loops whose critical points count, in P
            'border': 'membrane',  # membrane or open: what the window's frame counts as
            'backend': 'gudhi',  # gudhi (host callback) or xla (on the device)
        }
    )

    # cross_entropy or cross_entropy_dice (their sum with the soft Dice loss).
    config.loss = 'cross_entropy'
    # Added in phase two: the persistence diagrams' distance from the truth's (TopoLoss), by patch.
    config.topological_loss = ConfigDict({'weight': 0.0, 'patch': 64})
    # Added in phase two: the distance of VGG19's features of prediction and truth (Mosin.). The
    # weights are a file, torchvision's state dict or .npz; '' = random features.
    config.perceptual_loss = ConfigDict({'weight': 0.0, 'vgg19': ''})
    config.optimizer = ConfigDict(
        {
            'name': 'rmsprop',  # or adamw
            'decay': 0.99,  # of rmsprop's mean square
            'weight_decay': 0.0,
        }
    )
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
            'keep': 3,  # of the last ones
            # Of the validation sections; the best checkpoint of the last phase is kept as well.
            'best_metric': 'voi',
        }
    )
    config.evaluate = ConfigDict(
        {
            'every_epochs': 1,  # validation during training
            # Where P (or P_hat) is membrane: 'fixed', or that of the lowest VOI on the 'training'
            # or the 'validation' sections, of which at most so many are tried. They also choose how
            # membranes are closed; with 'fixed', half of the threshold does.
            'threshold': 0.5,
            'threshold_from': 'fixed',
            'threshold_sections': 20,
            'test_sections': 0,  # score at most so many, evenly spread; 0 = all
            # After training: P is the mean over so many flips (4) and rotations (8) of a section.
            'views': 1,
            # Larger sections go through the network in tiles, each with a halo around it.
            'tile_px': 2048,
            'halo_px': 128,
            # Betti error: side of its patches, how many, and what draws them.
            'betti_patch': 64,
            'betti_patches': 100,
            'betti_seed': 0,
            'picture_every': 4,  # test sections
        }
    )
    return config


# Where files lie and how results are shown may differ between the calls of one run.
FREE_KEYS = (
    'data_dir',
    'mirror',
    'prepared_dir',
    'cache_mb',
    'start_from',
    'evaluate',
    'checkpoint',
)

# What phase one knows nothing of.
PHASE_TWO_KEYS = ('attention', 'phase_two', 'topological_loss', 'perceptual_loss')

_CHOICES = {
    'dataset': ('synthetic', 'isbi12', 'isbi13', 'cremi', 'custom'),
    'custom.label_kind': ('ids', 'membrane', 'interior'),
    'downsample': (1, 2),
    'slices': (1, 3, 5),
    'fold': (1, 2, 3),
    'precision': ('float32', 'bfloat16'),
    'loss': ('cross_entropy', 'cross_entropy_dice'),
    'model.name': ('convlstm', 'recurrent_unet', 'unet', 'dive', 'mosinska'),
    'attention.kind': ('none', 'sta', 'ita'),
    'attention.form': ('refined', 'straight_through', 'both', 'weighted'),
    'attention.border': ('membrane', 'open'),
    'attention.backend': ('gudhi', 'xla'),
    'optimizer.name': ('rmsprop', 'adamw'),
    'phase_one.schedule': ('constant', 'halving', 'cosine'),
    'checkpoint.best_metric': ('dice', 'dice_membrane', 'ari', 'voi', 'betti_error'),
    'evaluate.views': (1, 4, 8),
    'evaluate.threshold_from': ('fixed', 'training', 'validation'),
}
# (lowest, highest) value, both allowed.
_RANGES = {
    'batch_size': (1, None),
    'cache_mb': (0, None),
    'crops_limit': (0, None),
    'membrane_dilation_px': (0, None),
    'unlabelled_beyond_px': (0, None),
    'validation_sections': (0, None),
    'model.kernel': (1, None),
    'model.iterations': (1, None),
    'perceptual_loss.weight': (0, None),
    'attention.alpha': (0, None),
    'attention.beta': (0, 1),
    'topological_loss.weight': (0, None),
    'topological_loss.patch': (8, None),
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
    'evaluate.threshold_sections': (1, None),
    'evaluate.test_sections': (0, None),
    'evaluate.tile_px': (64, None),
    'evaluate.halo_px': (0, None),
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
    if config.evaluate.threshold_from == 'validation' and config.validation_sections == 0:
        raise InputError(
            "Expected config.validation_sections above 0 for evaluate.threshold_from='validation'; "
            "found 0. Hold some out, or take 'training' or 'fixed'."
        )
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


def differences(config: Any, other: Any, but: tuple[str, ...] = ()) -> list[str]:
    """Lines 'key: one value, other value' of the settings in which two runs differ for good.

    Args:
        config: one run's.
        other: the other's.
        but: first parts of keys that may differ too, such as `PHASE_TWO_KEYS`.
    """
    one, two = flatten(config), flatten(other)
    return [
        f'{key}: {one.get(key, "unset")} here, {two.get(key, "unset")} there'
        for key in sorted(one.keys() | two.keys())
        if key.split('.')[0] not in (*FREE_KEYS, *but) and one.get(key) != two.get(key)
    ]
