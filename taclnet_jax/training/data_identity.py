"""Which data a run was begun with: other data are refused."""

import json
from pathlib import Path

from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.files import parse_json, write_text

DATA = 'data.json'
"""In a workdir: the sum of its data and their voxel size."""


def keep_data(volume: Volume, folder: Path) -> None:
    """Writes down what a run is begun with."""
    told = {'sha256': volume.identity, 'resolution_nm': volume.resolution_nm}
    write_text(folder / DATA, json.dumps(told) + '\n')


def check_same_data(
    volume: Volume, folder: str | Path, otherwise: str = 'choose another --workdir'
) -> None:
    """Refuses a volume that is another one than a run was begun with, wherever either lies.

    Args:
        volume: the data of now.
        folder: the run.
        otherwise: what to do where these data are meant, for the message.
    """
    try:
        known = parse_json(Path(folder, DATA).read_text())['sha256']
    except FileNotFoundError:
        return
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f'{Path(folder, DATA)} is damaged ({error}). Remove it if the data are the same.'
        ) from error
    if known != volume.identity:
        raise InputError(
            f'{folder} holds the run of other data than {volume.name}: sections or labels have '
            f'changed since it was begun. Give the data that it was trained on, or {otherwise}.'
        )
