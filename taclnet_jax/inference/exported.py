"""Models to hand out: a folder with parameters, settings and a card. Reading one runs no code."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from taclnet_jax.config import run_settings
from taclnet_jax.config.data import DataSettings
from taclnet_jax.config.schema import as_nested
from taclnet_jax.config.settings import CheckpointSettings
from taclnet_jax.errors import InputError
from taclnet_jax.files import explained, replacing
from taclnet_jax.inference.cut import Cut
from taclnet_jax.inference.model import Model
from taclnet_jax.metrics.maps import MAPS
from taclnet_jax.models import create_model

SHIPPED = Path(__file__).parents[1] / 'pretrained'

_PARAMETERS, _DESCRIPTION, _CARD = 'model.safetensors', 'model.json', 'README.md'


def is_exported(folder: Path) -> bool:
    """Whether the folder is one of `export`, whole or not."""
    return any((folder / name).exists() for name in (_DESCRIPTION, _PARAMETERS))


def export(model: Model, folder: str | Path, card: str) -> None:
    """Writes a model for others: parameters in bfloat16, settings, cuts and a card.

    Of its data it says the voxel size and the name of the data set, no paths.

    Args:
        model: evaluated, so that its cuts are known.
        folder: that is made; one of `export` is replaced.
        card: what it was trained on, how well it does, what it is not for; Markdown.

    Raises:
        InputError: it was not evaluated, or the folder is something else or cannot be written.
    """
    target = Path(folder)
    if target.exists() and not is_exported(target):
        raise InputError(
            f'Expected {target} not to exist, or to be an exported model; found something else. '
            'Choose another --output.'
        )
    content = save(
        {
            # Running means and variances are few, and divided by.
            name: np.asarray(x, jnp.bfloat16 if name.startswith('params/') else np.float32)
            for name, x in flatten_dict(jax.device_get(model.variables), sep='/').items()
        }
    )
    description = {
        'settings': _settings(model),
        'step': model.step,
        'cuts': {name: model.cut(name) for name in MAPS},
        'resolution_nm': model.resolution_nm,
        'sha256': hashlib.sha256(content).hexdigest(),
    }
    with explained(target), replacing(target) as partial:
        partial.mkdir()
        (partial / _PARAMETERS).write_bytes(content)
        (partial / _DESCRIPTION).write_text(json.dumps(description, indent=1) + '\n')
        (partial / _CARD).write_text(card)


def read_exported(folder: Path) -> Model:
    """A model of `export`.

    Raises:
        InputError: the folder is half copied, damaged, or of another version.
    """
    again = 'Copy or download it again, or export it again from its run.'
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        content = (folder / _PARAMETERS).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            f'Expected {_DESCRIPTION} and {_PARAMETERS} of a model in {folder}, found no such file '
            f'that can be read ({error}). {again}'
        ) from error
    try:
        digest, step = description['sha256'], int(description['step'])
        cuts = {name: Cut(*description['cuts'][name]) for name in MAPS}
        voxel = description['resolution_nm'] and (*map(float, description['resolution_nm']),)
        settings = run_settings(description['settings'])
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'{folder / _DESCRIPTION} is not of this version of taclnet_jax, or damaged ({error}). '
            + again
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(
            f'{folder / _PARAMETERS} is not what was exported: its sum is another one. {again}'
        )
    network = create_model(settings.model, settings.precision)
    model = Model(settings, network, _variables(folder / _PARAMETERS), step, cuts, voxel, folder)
    _check_shapes(model, folder)
    return model


def shipped_names() -> list[str]:
    """Models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f'*/{_DESCRIPTION}'))


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


def _variables(path: Path) -> dict[str, Any]:
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f'{path} cannot be read: {error}.') from error
    arrays = {name: np.asarray(x, np.float32) for name, x in tensors.items()}
    nested: dict[str, Any] = unflatten_dict(arrays, sep='/')
    return nested


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
