"""The files of a model that is handed out, and the models that come with the package.

Reading them runs no code: safetensors hold arrays alone, the description is JSON.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load

from taclnet_jax.errors import InputError
from taclnet_jax.files import parse_json

PARAMETERS, DESCRIPTION, CARD = 'model.safetensors', 'model.json', 'README.md'
SHIPPED = Path(__file__).parents[1] / 'pretrained'
AGAIN = 'Copy or download it again, or export it again from its run.'


def shipped_names() -> list[str]:
    """Models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f'*/{DESCRIPTION}'))


def model_folder(place: str | Path) -> Path:
    """The folder that a path, or the name of a model that comes with the package, stands for.

    A folder of that name is meant only where it holds a model or a run: raw data and predictions
    are called so as well.

    Raises:
        InputError: neither is there.
    """
    folder, names = Path(place), shipped_names()
    if str(place) in names and not (is_exported(folder) or _is_run(folder)):
        return SHIPPED / str(place)
    if not folder.exists():
        raise InputError(
            "Expected a run's workdir, the folder of an exported model, or one of "
            f'{", ".join(names)}; {folder} does not exist. Train one with --mode=train.'
        )
    return folder


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ('config.json', 'checkpoints'))


def is_exported(folder: Path) -> bool:
    """Whether the folder is of an exported model, whole or not."""
    return any((folder / name).exists() for name in (DESCRIPTION, PARAMETERS))


def read_files(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Description and variables (float32) of an exported model.

    Raises:
        InputError: the folder is half copied or damaged.
    """
    try:
        description = parse_json((folder / DESCRIPTION).read_text())
        content = (folder / PARAMETERS).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            f'Expected {DESCRIPTION} and {PARAMETERS} of a model in {folder}, found no such file '
            f'that can be read ({error}). {AGAIN}'
        ) from error
    found = description.get('sha256') if isinstance(description, dict) else None
    if hashlib.sha256(content).hexdigest() != found:
        raise InputError(
            f'{folder / PARAMETERS} is not what was exported: its sum is another one. {AGAIN}'
        )
    try:
        tensors = load(content)
    except (SafetensorError, KeyError) as error:  # KeyError: of a type that NumPy lacks
        raise InputError(f'{folder / PARAMETERS} cannot be read: {error}. {AGAIN}') from error
    arrays = {name: np.asarray(x, np.float32) for name, x in tensors.items()}
    return description, unflatten_dict(arrays, sep='/')
