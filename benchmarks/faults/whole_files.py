"""Files as they should be, of every kind that the package reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import tensorstore as ts
import tifffile

from benchmarks.faults.runs import RESOLUTION_NM, new_state, random_state, settings_of
from taclnet_jax import metrics
from taclnet_jax.config.schema import as_nested
from taclnet_jax.inference import Cut, Model, export
from taclnet_jax.losses.perceptual import convolutions
from taclnet_jax.metrics.maps import MAPS
from taclnet_jax.models import create_model
from taclnet_jax.training.checkpoints import Checkpoints
from taclnet_jax.volumes import write_array

_STACK = np.random.default_rng(0).integers(1, 256, (4, 40, 48)).astype(np.uint8)
_CUTS = dict.fromkeys(MAPS, Cut(0.5, 0.25))


def write_all(folder: Path) -> None:
    """A folder for each kind, with the files or folders of that kind in it."""
    for kind, write in KINDS.items():
        (folder / kind).mkdir(parents=True)
        write(folder / kind)


def _tiff(folder: Path) -> None:
    options: dict[str, dict[str, Any]] = {
        'plain': {'metadata': None},
        'deflated': {'compression': 'zlib', 'rowsperstrip': 10, 'predictor': True},
        'tiled': {'tile': (16, 16), 'compression': 'zlib', 'metadata': None},
        'imagej': {'imagej': True, 'metadata': {'spacing': 40, 'unit': 'nm', 'axes': 'ZYX'}},
        'big': {'bigtiff': True, 'byteorder': '>'},
        'white': {'photometric': 'miniswhite', 'metadata': None},
    }
    for name, chosen in options.items():
        grey = {'photometric': 'minisblack'}
        tifffile.imwrite(folder / f'{name}.tif', _STACK, **grey | chosen)
    tifffile.imwrite(folder / 'measured.ome.tif', _STACK, ome=True, metadata={'axes': 'ZYX'})


def _png(folder: Path) -> None:
    write_array(folder / 'sections', _STACK, format='png')
    write_array(folder / 'deep', _STACK.astype(np.uint16) * 200, format='png')


def _hdf5(folder: Path) -> None:
    for name, chunk in (('one', (2, 16, 16)), ('whole', (4, 40, 48))):
        path = folder / f'{name}.h5'
        write_array(path, _STACK, chunk=chunk, resolution_nm=RESOLUTION_NM, offset_nm=(40, 0, 4))
    with h5py.File(folder / 'plain.h5', 'w') as file:
        file['volumes/raw'] = _STACK
        file['volumes/raw'].attrs['resolution'] = RESOLUTION_NM
    with h5py.File(folder / 'new.h5', 'w', libver='latest') as file:
        file.create_dataset('a', data=_STACK, chunks=(2, 20, 24), fletcher32=True)


def _chunked(format: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        options: Any = {'format': format, 'chunk': (2, 16, 16), 'resolution_nm': RESOLUTION_NM}
        write_array(folder / 'grey', _STACK, **options)
        write_array(folder / 'ids', _STACK.astype(np.uint32) * 10**6, **options)
        if format == 'zarr3':
            _sharded(folder / 'sharded')

    return write


def _sharded(folder: Path) -> None:
    """A zarr v3 array in shards, of which the index has a sum."""
    inner = [{'name': 'bytes', 'configuration': {'endian': 'little'}}, {'name': 'zstd'}]
    shards = {'chunk_shape': [2, 20, 24], 'codecs': inner}
    metadata = {
        'shape': list(_STACK.shape),
        'data_type': 'uint8',
        'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': [4, 40, 48]}},
        'codecs': [{'name': 'sharding_indexed', 'configuration': shards}],
    }
    store = {'driver': 'file', 'path': f'{folder}/'}
    spec = {'driver': 'zarr3', 'kvstore': store, 'metadata': metadata, 'create': True}
    ts.open(spec).result().write(_STACK).result()


def _npz(folder: Path) -> None:
    arrays = {}
    for _, index, inputs, features in convolutions():
        arrays[f'features.{index}.weight'] = np.ones((features, inputs, 3, 3), np.float16)
        arrays[f'features.{index}.bias'] = np.ones(features, np.float16)
    np.savez(folder / 'stored.npz', **arrays)
    np.savez_compressed(folder / 'deflated.npz', **arrays)


def _run(folder: Path) -> None:
    """A run with checkpoints of two steps, evaluated, with parameters at random."""
    settings, template = settings_of('convlstm'), new_state('convlstm')
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(as_nested(settings)))
    means = dict.fromkeys((*metrics.MAIN, *metrics.EXTENDED), 0.5)
    results: dict[str, Any] = {
        name: {**cut._asdict(), 'mean': means, 'std': means} for name, cut in _CUTS.items()
    }
    results |= {'resolution_nm': RESOLUTION_NM, 'sections': [8, 9], 'step': 2}
    results |= {'dataset': 'synthetic', 'fold': 3}
    (folder / 'results.json').write_text(json.dumps(results))
    checkpoints = Checkpoints(folder, settings.checkpoint, as_nested(settings))
    for step in (1, 2):
        checkpoints.save(random_state(template, step, step))
    checkpoints.offer(random_state(template, 2, 2), {settings.checkpoint.best_metric: 1.0})
    checkpoints.close()


def _model(folder: Path) -> None:
    settings = settings_of('convlstm')
    network = create_model(settings.model, settings.precision)
    variables = jax.device_get(random_state(new_state('convlstm'), 1, 1).variables)
    model = Model(settings, network, variables, 1, _CUTS, RESOLUTION_NM)
    export(model, folder / 'model', 'A card.')


KINDS: dict[str, Callable[[Path], None]] = {
    'tiff': _tiff,
    'png': _png,
    'hdf5': _hdf5,
    **{kind: _chunked(kind) for kind in ('zarr2', 'zarr3', 'n5', 'precomputed')},
    'npz': _npz,
    'safetensors': _model,
    **{kind: lambda folder: _run(folder / 'run') for kind in ('checkpoint', 'config', 'results')},
}
"""How the files of each kind are written into a folder."""
