"""ISBI 2012: 30 sections of Drosophila nerve cord, ssTEM, through tensorflow-datasets.

The builder prepares and reads array_record files; TensorFlow is neither needed nor imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.volumes import as_uint8_image, read_stack

URL = 'https://downloads.imagej.net/ISBI-2012-challenge.zip'
RESOLUTION_NM = (50.0, 4.0, 4.0)
IMAGE = 'isbi12/train-volume.tif'
LABELS = 'isbi12/train-labels.tif'

_CITATION = """\
@article{arganda2015crowdsourcing,
  title={Crowdsourcing the creation of image segmentation algorithms for connectomics},
  author={Arganda-Carreras, Ignacio and Turaga, Srinivas C. and Berger, Daniel R. and others},
  journal={Frontiers in Neuroanatomy}, volume={9}, pages={142}, year={2015}
}
@article{cardona2010integrated,
  title={An integrated micro- and macroarchitectural analysis of the Drosophila brain by
    computer-assisted serial section electron microscopy},
  author={Cardona, Albert and Saalfeld, Stephan and Preibisch, Stephan and others},
  journal={PLoS Biology}, volume={8}, number={10}, pages={e1000502}, year={2010}
}
"""


class Isbi12(tfds.core.GeneratorBasedBuilder):
    """One example a section: `image` `[y, x]` uint8, `membrane` `[y, x]` bool, `z`.

    The raw files lie below the download configuration's `manual_dir`. Prepare it under a
    configuration named by their `fingerprint`: changed files are then other data.
    """

    VERSION = tfds.core.Version('1.0.0')
    MANUAL_DOWNLOAD_INSTRUCTIONS = f'Unpack {URL} and place {IMAGE} and {LABELS} in manual_dir.'

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description='Training stack of the ISBI 2012 EM segmentation challenge.',
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Tensor(
                        shape=(None, None), dtype=np.uint8, encoding='zlib'
                    ),
                    'membrane': tfds.features.Tensor(
                        shape=(None, None), dtype=np.bool_, encoding='zlib'
                    ),
                    'z': tfds.features.Scalar(dtype=np.int32),
                }
            ),
            homepage='https://imagej.net/events/isbi-2012-segmentation-challenge',
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {'train': self._generate_examples(Path(dl_manager.manual_dir))}

    def _generate_examples(self, data_dir: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        image, membrane = read_raw(data_dir)
        for z in range(len(image)):
            yield z, {'image': image[z], 'membrane': membrane[z], 'z': z}


def load_isbi12(
    data_dir: str | os.PathLike[str], prepared_dir: str | os.PathLike[str] | None = None
) -> Volume:
    """Loads the ISBI 2012 training stack, preparing it first where that has not been done.

    Args:
        data_dir: the folder of raw files, which holds `isbi12/train-volume.tif` (uint8) and
            `isbi12/train-labels.tif` (0 = membrane, 255 = cell interior).
        prepared_dir: where prepared data are kept; None = tensorflow-datasets' own folder.

    Returns:
        Image and membrane mask, (50, 4, 4) nm; the stack has no instance ids.

    Raises:
        InputError: a raw file is missing or unfit, or the prepared data cannot be written or read.
    """
    data_dir = Path(data_dir).expanduser().resolve()
    fingerprint = _fingerprint(data_dir)
    prepared = None if prepared_dir is None else os.fspath(Path(prepared_dir).expanduser())
    with _quiet():
        try:
            builder = _prepared(data_dir, fingerprint, prepared)
            source = builder.as_data_source(split='train')
            examples = sorted((source[i] for i in range(len(source))), key=lambda e: int(e['z']))
            image = np.stack([e['image'] for e in examples])
            membrane = np.stack([e['membrane'] for e in examples])
        except InputError:
            raise
        except Exception as error:  # array_record, protobuf and zlib each have errors of their own
            raise InputError(
                f'The prepared ISBI12 data named isbi12/{fingerprint} in '
                f'{prepared or "the folder of tensorflow-datasets"} cannot be read ({error}); '
                'delete that folder and start again.'
            ) from error
    return Volume('isbi12', image, membrane, None, RESOLUTION_NM)


def read_raw(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads and checks the raw TIFF files: image uint8 and membrane bool, `[z, y, x]`."""
    image = as_uint8_image(read_stack(data_dir / IMAGE, 'image'), IMAGE)
    labels = read_stack(data_dir / LABELS, 'labels')
    if labels.shape != image.shape:
        raise InputError(
            f'isbi12: image {image.shape} and labels {labels.shape} differ in size [z, y, x]; '
            f'copy {IMAGE} and {LABELS} again.'
        )
    values = np.unique(labels)
    if not np.isin(values, (0, 255)).all():
        shown = ', '.join(str(v) for v in values[:8]) + (', ...' if len(values) > 8 else '')
        raise InputError(
            f'Expected labels of 0 (membrane) and 255 (cell interior) in {data_dir / LABELS}, '
            f'found {shown}; use the labels as published.'
        )
    return image, labels == 0


def _fingerprint(data_dir: Path) -> str:
    """Names the contents of the raw files, so that prepared data never outlive them."""
    digest = hashlib.sha256()
    for name in (IMAGE, LABELS):
        try:
            with (data_dir / name).open('rb') as file:
                digest.update(hashlib.file_digest(file, 'sha256').digest())
        except FileNotFoundError as error:
            raise InputError(
                f'Expected the ISBI12 stack at {data_dir / name} (config.data_dir is {data_dir}), '
                f'but there is no such file; it is published at {URL}.'
            ) from error
        except OSError as error:
            raise InputError(f'Cannot read {data_dir / name}: {error.strerror}.') from error
    return digest.hexdigest()[:16]


def _prepared(data_dir: Path, fingerprint: str, prepared_dir: str | None) -> Isbi12:
    """The builder of these raw files, which tensorflow-datasets prepares whole or not at all."""

    def builder() -> Isbi12:
        config = tfds.core.BuilderConfig(name=fingerprint, version=Isbi12.VERSION)
        return Isbi12(config=config, data_dir=prepared_dir, file_format='array_record')

    first = builder()
    if first.data_path.exists():
        return first
    read_raw(data_dir)  # its errors come out of the builder wrapped in others
    try:
        first.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=data_dir, try_download_gcs=False
            )
        )
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as the latter
        again = builder()
        if again.data_path.exists():  # another process has prepared the same in the meantime
            return again
        raise InputError(
            f'Cannot write the prepared ISBI12 data to {first.data_path} '
            f'({getattr(error, "strerror", None) or error}); free some space there or choose '
            'another folder with config.prepared_dir.'
        ) from error
    return first


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the library's log lines and progress bars off the terminal for a second of work."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
