"""What the published data sets share: raw files, found or downloaded, prepared once, read lazily.

tensorflow-datasets prepares array_record files; TensorFlow is neither needed nor imported.
"""

import abc
import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from taclnet_jax.config.data import DataSettings
from taclnet_jax.data.cache import SectionCache
from taclnet_jax.data.download import fetch, unpack
from taclnet_jax.data.labels import membranes_from_ids, unlabelled_far_from_ids
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.progress import Progress
from taclnet_jax.volumes import LazySections, Sections, read_stack
from taclnet_jax.volumes.sections import concatenated

# tensorflow-datasets holds one file's sections in memory until it has written them.
_FILE_BYTES = 2**26


class VolumeBuilder(tfds.core.ShardBasedBuilder):
    """Prepares a volume: one example a section, in order, several to a file.

    The raw files lie below the download configuration's `manual_dir`. Prepare it under a
    configuration named by their `fingerprint`: changed files are then other data.
    """

    VERSION = tfds.core.Version('2.0.0')  # of the prepared data's layout
    TITLE: str
    """The data set's name in messages."""
    ABOUT: Mapping[str, str]
    """Its `description`, `homepage` and `citation`."""
    MANUAL_DOWNLOAD_INSTRUCTIONS = 'Place the published files below manual_dir.'
    FEATURES: Mapping[str, Any]
    """Each feature's type, such as {'image': np.uint8}; all are `[y, x]` in an example."""

    @abc.abstractmethod
    def raw(self, folder: Path) -> Mapping[str, Sections]:
        """Opens and checks the raw files below this folder: a stack for each feature.

        Its values must fit into the feature's type, to which they are converted.
        """

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]]:
        stacks = self.raw(Path(dl_manager.manual_dir))
        features = self.FEATURES.items()
        image = stacks['image'].shape
        for name, stack in stacks.items():
            if stack.shape != image:
                raise InputError(
                    f'{self.TITLE}: image {image} and {name} {stack.shape} differ in size '
                    '[z, y, x]; use the files as published.'
                )

        def sections() -> Iterator[tuple[int, dict[str, Any]]]:
            with contextlib.closing(Progress(0, image[0], 'section')) as progress:
                for z in range(image[0]):
                    progress.step(f'Preparing {self.TITLE}')
                    example = {n: np.ascontiguousarray(stacks[n][z], t) for n, t in features}
                    yield z, example

        # The files are written one after the other, each of the sections that come next.
        pixel = sum(np.dtype(dtype).itemsize for _, dtype in features)
        each = max(1, _FILE_BYTES // (image[1] * image[2] * pixel))
        more = sections()
        return {'train': [partial(islice, more, each) for _ in range(0, image[0], each)]}

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            name: tfds.features.Tensor(shape=(None, None), dtype=dtype, encoding='zlib')
            for name, dtype in self.FEATURES.items()
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), **self.ABOUT
        )


def prepared(
    kind: type[VolumeBuilder], name: str, settings: DataSettings
) -> dict[str, LazySections]:
    """A stack for each feature of a volume, prepared first where that has not been done.

    Several threads may read them at once. `name` is the `fingerprint` of the raw files' contents.

    Raises:
        InputError: a raw file is unfit, or the prepared data cannot be written or read.
    """

    def stack(feature: str) -> LazySections:
        skip = {other: tfds.decode.SkipDecoding() for other in kind.FEATURES.keys() - {feature}}
        source = builder.as_data_source(split='train', decoders=skip)

        def read(z: int, rows: slice, columns: slice) -> np.ndarray:
            with _readable(builder):
                return source[z][feature][rows, columns]

        shape = len(source), *source[0][feature].shape
        return LazySections(shape, kind.FEATURES[feature], read)

    with _quiet():
        builder = _prepared(kind, name, settings)
        with _readable(builder):
            return {feature: stack(feature) for feature in kind.FEATURES}


def raw_folder(settings: DataSettings) -> Path:
    """Where raw files are looked for, and downloaded to.

    Without a `data_dir` that is `downloads/manual` below the prepared data, where
    tensorflow-datasets expects files placed by hand.
    """
    prepared = settings.prepared_dir or tfds.core.constants.DATA_DIR
    return Path(settings.data_dir or Path(prepared, 'downloads', 'manual')).expanduser().resolve()


def prepared_archive(
    kind: type[VolumeBuilder],
    settings: DataSettings,
    names: Mapping[str, str],
    *,
    archive: str,
    url: str,
) -> dict[str, LazySections]:
    """As `prepared`, of TIFF stacks published together in a zip: as they are, or out of it.

    Args:
        kind, settings: of `prepared`.
        names: the files below the folder of raw files, such as `snemi3d/train-input.tif`, each with
            its `voxels_sha256` as published: what comes out of a zip must be that.
        archive: the zip below it, such as `snemi3d/snemi.zip`; it may lie in the folder itself,
            too, and the files may each be in a zip of its own name.
        url: of the zip.
    """
    folder = raw_folder(settings)

    def check(unpacked: Path) -> None:
        found = voxels_sha256(read_stack(unpacked))
        if found != names[name]:
            raise InputError(
                f'Expected the published {path.name} in {source}, voxels of sha256 {names[name]}; '
                f'found {found}. Remove the archive to download it anew, or, if you want these '
                f'voxels, unpack the file yourself to {path}.'
            )

    for name in names:
        path = folder / name
        if not path.exists():
            zips = (path.with_suffix('.zip'), folder / archive, folder / Path(archive).name)
            source = next((zip for zip in zips if zip.exists()), None)
            if source is None:
                source = fetch(url, folder, archive, mirror=settings.mirror)
            unpack(source, path.name, path, check)
    return prepared(kind, fingerprint(*(folder / name for name in names)), settings)


def voxels_sha256(stack: np.ndarray) -> str:
    """Of the shape and the whole numbers in a stack, however a file stores and compresses them."""
    digest = hashlib.sha256(str(stack.shape).encode())
    for section in stack:
        digest.update(np.ascontiguousarray(section, '<i8'))
    return digest.hexdigest()


def volume_of_ids(
    name: str,
    parts: Sequence[Mapping[str, Sections]],
    resolution_nm: tuple[float, float, float],
    settings: DataSettings,
) -> Volume:
    """A volume of prepared parts with the features `image` and `ids`.

    The ids are the prepared ones; what is derived from them is kept in the cache, as the image is.
    """
    ids = concatenated([part['ids'] for part in parts])
    ends = np.cumsum([part['ids'].shape[0] for part in parts]).tolist()
    cache = SectionCache(settings.cache_mb)
    far = settings.unlabelled_beyond_px
    unlabelled = cache.of(unlabelled_far_from_ids(ids, far)) if far else None
    trained_on = settings.unlabelled_is_membrane
    return Volume(
        name,
        cache.of(concatenated([part['image'] for part in parts])),
        cache.of(membranes_from_ids(ids, settings.membrane_dilation_px)),
        ids,
        resolution_nm,
        ignore=None if trained_on else unlabelled,
        unscored=unlabelled if trained_on else None,
        parts=tuple(range(start, end) for start, end in zip([0, *ends], ends, strict=False)),
    )


def fingerprint(*paths: Path) -> str:
    """Names the contents of raw files, so that prepared data never outlive them."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open('rb') as file:
                digest.update(hashlib.file_digest(file, 'sha256').digest())
        except OSError as error:
            raise InputError(f'Cannot read {path}: {error.strerror}.') from error
    return digest.hexdigest()[:16]


def _prepared(kind: type[VolumeBuilder], name: str, settings: DataSettings) -> VolumeBuilder:
    """The builder, after tensorflow-datasets has prepared it whole or not at all."""
    place = os.path.expanduser(settings.prepared_dir) or None
    config = tfds.core.BuilderConfig(name=name)
    builder = partial(kind, config=config, data_dir=place, file_format='array_record')
    first = builder()
    if first.data_path.exists():
        return first
    try:
        first.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=raw_folder(settings), try_download_gcs=False
            )
        )
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as the latter
        again = builder()
        if again.data_path.exists():  # another process has prepared the same in the meantime
            return again
        raise InputError(
            f'Cannot write the prepared {first.TITLE} data to {first.data_path} '
            f'({getattr(error, "strerror", None) or error}); free some space there or choose '
            'another folder with config.prepared_dir.'
        ) from error
    return first


@contextlib.contextmanager
def _readable(builder: VolumeBuilder) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # array_record, protobuf and zlib each have errors of their own
        raise InputError(
            f'The prepared {builder.TITLE} data in {builder.data_path} cannot be read ({error}); '
            'delete that folder and start again.'
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the library prints and logs off the terminal."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
