"""Models to hand out: a folder with parameters, settings and a card. Reading one runs no code."""

import hashlib
import json
import operator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from numpy.typing import NDArray
from safetensors.numpy import save

from taclnet_jax.config import run_settings
from taclnet_jax.config.data import DataSettings
from taclnet_jax.config.schema import as_nested
from taclnet_jax.config.settings import CheckpointSettings
from taclnet_jax.errors import InputError
from taclnet_jax.files import explained, replacing
from taclnet_jax.inference.cut import known_cut, known_voxel_size
from taclnet_jax.inference.model import Model
from taclnet_jax.metrics.maps import MAPS
from taclnet_jax.models import create_model
from taclnet_jax.models.exported import AGAIN, CARD, DESCRIPTION, PARAMETERS, read_files
from taclnet_jax.volumes import local_folder
from taclnet_jax.volumes.sections import listed


def export(model: Model, folder: str | Path, card: str, overwrite: bool = False) -> None:
    """Writes a model for others: parameters in float16, settings, cuts and a card.

    Of its data it says the voxel size and the name of the data set, no paths.

    Args:
        model: with known cuts: evaluated, or of a fixed threshold.
        folder: that is made.
        card: what it was trained on, how well it does, what it is not for; Markdown.
        overwrite: replace an older model in the folder, card and all.

    Raises:
        InputError: it was not evaluated, or the folder is something else or cannot be written.
    """
    target = local_folder(folder, '--output of a model')
    if target.exists():
        _check_replaceable(target, overwrite)
    arrays = flatten_dict(jax.device_get(model.variables), sep='/')
    content = save({name: _small(name, x) for name, x in arrays.items()})
    description = {
        'settings': _settings(model),
        'step': model.step,
        'cuts': {name: model.cut(name) for name in MAPS},
        'resolution_nm': model.voxel_size(),
        'sha256': hashlib.sha256(content).hexdigest(),
    }
    with explained(target), replacing(target) as partial:
        partial.mkdir()
        (partial / PARAMETERS).write_bytes(content)
        (partial / DESCRIPTION).write_text(json.dumps(description, indent=1) + '\n')
        (partial / CARD).write_text(card)


def read_exported(folder: Path) -> Model:
    """A model of `export`.

    Raises:
        InputError: the folder is half copied, damaged, or of another version.
    """
    description, variables = read_files(folder)
    try:
        step = operator.index(description['step'])
        cuts = {name: known_cut(*description['cuts'][name]) for name in MAPS}
        voxel = known_voxel_size(description['resolution_nm'])
        settings = run_settings(description['settings'])
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'{folder / DESCRIPTION} is not of this version of taclnet_jax, or damaged ({error}). '
            + AGAIN
        ) from error
    network = create_model(settings.model, settings.precision)
    model = Model(settings, network, variables, step, cuts, voxel, folder)
    _check_shapes(model, folder)
    return model


def _check_replaceable(folder: Path, overwrite: bool) -> None:
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if others := sorted(there - {PARAMETERS, DESCRIPTION, CARD}):
        raise InputError(
            f'Expected {folder} to be new, or the folder of an exported model; found something '
            f'else ({listed(others, 3)}). Choose another --output.'
        )
    if there and not overwrite:
        raise InputError(
            f'{folder} holds a model, or its card. Choose another --output, or replace them with '
            '--overwrite.'
        )


def _small(name: str, x: NDArray[np.float32]) -> NDArray[Any]:
    """In half the bytes: float16, whose scores are those of float32 (docs/models.md).

    bfloat16 has three bits fewer. Running means and variances are few, and divided by; what is too
    large for float16 stays as it is, too.
    """
    with np.errstate(over='ignore'):
        half = x.astype(np.float16)
    return half if name.startswith('params/') and np.isfinite(half).all() else x


def _settings(model: Model) -> dict[str, Any]:
    """All that its use needs, without the places of files of whoever trained it."""
    settings = model.settings
    perceptual = replace(settings.losses.perceptual_loss, vgg19='')
    kept = replace(
        settings,
        data=DataSettings(dataset=settings.data.dataset, downsample=settings.data.downsample),
        training=replace(settings.training, start_from='', initialise_from=''),
        losses=replace(settings.losses, perceptual_loss=perceptual),
        checkpoint=CheckpointSettings(),
    )
    return as_nested(kept)


def _check_shapes(model: Model, folder: Path) -> None:
    slices, side = model.settings.sampling.slices, model.network.stride
    window = jnp.zeros((1, slices, side, side))
    expected = jax.eval_shape(model.network.init, jax.random.key(0), window)
    here, there = (
        {name: x.shape for name, x in flatten_dict(tree, sep='/').items()}
        for tree in (expected, model.variables)
    )
    if here != there:
        other = sorted(here.items() ^ there.items())[0][0]
        raise InputError(
            f'{folder} holds the parameters of another network than its settings name, or of '
            f'another version: {other} is {there.get(other)} there, {here.get(other)} here.'
        )
