"""The settings of the data: which volume, which crops of it, how they are augmented."""

from dataclasses import dataclass
from typing import Literal

from taclnet_jax.config.schema import Settings, setting
from taclnet_jax.errors import InputError


@dataclass(frozen=True)
class SyntheticSettings(Settings, block='synthetic'):
    """The built-in tissue."""

    shape: tuple[int, int, int] = setting((24, 256, 256), 'Sections, height, width.')
    seed: int = setting(0, 'Another one, another tissue.', low=0)


@dataclass(frozen=True)
class CremiSettings(Settings, block='cremi'):
    """CREMI."""

    samples: tuple[str, ...] = setting(
        ('A', 'B', 'C'), 'Laid end to end; each is split into folds by itself.'
    )


@dataclass(frozen=True)
class CustomSettings(Settings, block='custom'):
    """Your own volumes: TIFF stack, folder of PNG or TIFF sections, HDF5, zarr, N5 or Neuroglancer
    precomputed. Of HDF5, zarr and N5 name the dataset inside as well. Several are separated by
    commas."""

    image: str = setting('', 'Path or address of the image.', role='free')
    image_dataset: str = setting('', 'The dataset inside it; one for all, or one each.')
    labels: str = setting(
        '',
        'Path or address of the labels, for each image; several may lie in one image.',
        role='free',
    )
    labels_dataset: str = setting('', 'The dataset inside them; one for all, or one each.')
    label_kind: Literal['ids', 'membrane', 'interior'] = setting(
        'ids', 'Instances (0 = none), a mask above 0 in membranes, or one that is 0 there.'
    )
    boxes: tuple[tuple[int, ...], ...] | tuple[int, ...] = setting(
        (),
        'Nothing is labelled outside these: sections (z0, z1), or (z0, z1, y0, y1, x0, x1), in '
        "voxels, ends exclusive; of several volumes, after the volume's number from 0.",
    )
    test_volumes: tuple[int, ...] = setting(
        (), 'Numbers, from 0, of volumes that are only tested on, in every fold.'
    )
    ignore: str = setting(
        '', 'Mask, above 0 = neither train nor score there; for each labels.', role='free'
    )
    ignore_dataset: str = setting('', 'The dataset inside it; one for all, or one each.')
    ignore_ids: tuple[int, ...] = setting(
        (), 'Ids that stand for "not labelled", treated the same.', high=2**64 - 1
    )
    resolution_nm: tuple[float, float, float] | tuple[()] = setting(
        (), 'Voxel size (z, y, x); () takes what the file says.'
    )


@dataclass(frozen=True)
class DataSettings(Settings):
    """Which volume, and what is made of its labels."""

    dataset: str = setting('synthetic', 'Data set.', registry='taclnet_jax.data:DATA_SETS')
    data_dir: str = setting(
        '',
        'Folder of the raw files, which holds isbi12/ and so on; what is missing is downloaded '
        "there. '' is TACLNET_DATA_DIR, or else a folder of tensorflow-datasets.",
        role='free',
    )
    mirror: str = setting(
        '', 'Web address of such a folder, to download from instead of the publishers.', role='free'
    )
    prepared_dir: str = setting(
        '', "Where prepared data sets are kept; '' is tensorflow-datasets' own folder.", role='free'
    )
    synthetic: SyntheticSettings = SyntheticSettings()
    cremi: CremiSettings = CremiSettings()
    custom: CustomSettings = CustomSettings()
    membrane_dilation_px: int = setting(
        1, 'Borders between instance ids are membranes, dilated by so much.', low=0, high=100
    )
    unlabelled_beyond_px: int = setting(
        0,
        'Id 0 is unlabelled wherever a disc of this radius has no other id; 0: all is membrane.',
        low=0,
        high=10_000,
    )
    unlabelled_is_membrane: bool = setting(
        False,
        'What `unlabelled_beyond_px` finds is trained on as membrane, so that cells end at myelin '
        'that nobody labelled; it is not scored all the same.',
    )
    sections: tuple[int, int] | tuple[()] = setting(
        (), 'Only those from the first to before the second of two numbers; () takes all.'
    )
    downsample: Literal[1, 2] = setting(
        1, '2: the network sees half the resolution in y and x; scores are those of the whole.'
    )
    cache_mb: int = setting(
        2000, 'Memory for sections of volumes that are read while training.', low=0, role='free'
    )


@dataclass(frozen=True)
class AugmentSettings(Settings, block='augment'):
    """Of each window anew. `dark`, `blur` and `noise` are probabilities for each section,
    `missing`, `misaligned` and `elastic` for a window; strengths are drawn from half the given one
    up to it. What moves the target's pixels in ways that the ITA memory cannot undo, `shift` and
    `elastic`, is for phase one only; flips and rotations are undone, and misaligned sections move
    about the target. See them: python -m taclnet_jax.tools.show_augmentations --config=..."""

    symmetries: bool = setting(False, 'Flips and rotations: the eight symmetries of the square.')
    reverse_z: bool = setting(False, 'Sections in reverse order, every second time.')
    gain: float = setting(0.0, 'Contrast is multiplied by 1 - gain to 1 + gain.', low=0, high=100)
    offset: float = setting(
        0.0,
        'Brightness moves by up to so many standard deviations of the section.',
        low=0,
        high=100,
    )
    gamma: float = setting(
        0.0, 'Grey values are raised to a power from 1 / (1 + gamma) to 1 + gamma.', low=0, high=100
    )
    dark: float = setting(0.0, 'A dark section of low contrast.', low=0, high=1)
    dark_strength: float = setting(
        0.5, 'At s contrast is multiplied by 1 - s, and brightness falls by s.', low=0, high=1
    )
    blur: float = setting(0.0, 'A section out of focus.', low=0, high=1)
    blur_px: float = setting(1.0, "The Gaussian's sigma.", low=0, high=100)
    noise: float = setting(0.0, 'A section with Gaussian noise.', low=0, high=1)
    noise_strength: float = setting(0.3, 'In standard deviations of the section.', low=0, high=100)
    missing: float = setting(0.0, 'A section blank, whole or on one side of a line.', low=0, high=1)
    misaligned: float = setting(
        0.0, 'A section, or all after it, displaced in its plane.', low=0, high=1
    )
    misaligned_px: int = setting(8, 'At most, along either axis.', low=0)
    shift: bool = setting(
        False, 'Crops move off their grid by up to half their size, as long as they have labels.'
    )
    elastic: float = setting(
        0.0, 'A smooth deformation, the same in all sections; try 0.5 on long schedules.',
        low=0, high=1,
    )  # fmt: skip
    elastic_px: float = setting(8.0, 'At most; up to a quarter of the spacing.', low=0)
    elastic_spacing_px: int = setting(48, "Of the deformation's lattice.", low=1, high=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.elastic_px > self.elastic_spacing_px / 4:
            raise InputError(
                'Expected config.augment.elastic_px to be at most a quarter of elastic_spacing_px, '
                f'beyond which a section can fold; found {self.elastic_px} and '
                f'{self.elastic_spacing_px}.'
            )


@dataclass(frozen=True)
class SamplingSettings(Settings):
    """Which sections and crops are trained on, and how they are augmented."""

    fold: Literal[0, 1, 2, 3] = setting(
        3,
        'Contiguous thirds of the labelled sections: the one to test on; 0: none, all are trained '
        'on.',
    )
    validation_sections: int = setting(
        3,
        'The last labelled training sections, held out to choose the best checkpoint: at least a '
        'window, or none (0: the last checkpoint is taken).',
        low=0,
    )
    slices: Literal[1, 3, 5] = setting(3, 'Sections in a window (l); the target is the middle one.')
    crop: tuple[int, int] = setting(
        (156, 156), 'Training crops in pixels, on a fixed grid over each section.'
    )
    crops_limit: int = setting(
        0, 'At most so many of them, drawn once from all over the volume; 0 = all.', low=0
    )
    crops_balanced: bool = setting(
        False, 'Draw crops with little and with much membrane equally often.'
    )
    batch_size: int = setting(10, 'Windows in a step, over all devices.', low=1)
    augment: AugmentSettings = AugmentSettings(
        symmetries=True,
        reverse_z=True,
        gain=0.1,
        offset=0.1,
        gamma=0.2,
        dark=0.05,
        blur=0.05,
        noise=0.05,
        missing=0.02,
        misaligned=0.05,
        shift=True,
    )
