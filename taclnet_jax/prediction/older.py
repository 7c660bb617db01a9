"""What is known of a prediction that is there already."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from taclnet_jax.errors import InputError
from taclnet_jax.files import parse_json
from taclnet_jax.volumes.sections import listed

ABOUT = 'prediction.json'
"""Says what a prediction is of, and which files are of it."""


def named_files(about: bytes | None) -> dict[str, str]:
    """The files of a prediction by name, as `ABOUT` has them; none where there is no prediction."""
    try:
        found = parse_json(about or b'')
        return {name: str(file) for name, file in found['files'].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def files_of(about: bytes | None) -> set[str]:
    """The values of `named_files`."""
    return set(named_files(about).values())


def same_prediction(found: bytes | None, about: Mapping[str, Any]) -> bool:
    """Whether an `ABOUT` that was found says the same, of whichever files."""
    try:
        told = parse_json(found or b'')
    except ValueError:
        return False
    wanted = json.loads(json.dumps(about))
    return isinstance(told, dict) and told | {'files': {}} == wanted | {'files': {}}


def check_replaceable(
    name: str, about: bytes | None, others: Sequence[str], overwrite: bool, partial: bool = False
) -> None:
    """Refuses to write over what is not to be replaced.

    Args:
        name: of the folder or address.
        about: what `ABOUT` says there.
        others: what is there, and not of a prediction.
        overwrite: whether a prediction may be replaced.
        partial: whether what is there was not finished.

    Raises:
        InputError: it says what is there.
    """
    if others or (about is not None and not files_of(about)):
        raise InputError(
            f'Expected --output to be a new folder, or that of a prediction; {name} holds '
            f'something else ({listed(others or [ABOUT], 3)}). Choose another one.'
        )
    if about is None or overwrite:
        return
    found = parse_json(about)
    entries = (found.get(entry, 'an unknown one') for entry in ('input', 'box', 'model'))
    told = 'the prediction of {}, box {}, by {}'.format(*entries)
    if partial:
        raise InputError(
            f'{name} holds a part of {told}, which another command is writing or left behind. '
            'Choose another --output, or replace it with --overwrite.'
        )
    raise InputError(
        f'{name} holds {told}. Choose another --output, or replace it with --overwrite.'
    )
