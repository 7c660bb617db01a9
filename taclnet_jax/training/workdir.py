"""The folder of a run: which configuration it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

from ml_collections import ConfigDict

from taclnet_jax.config import FREE_KEYS, differences
from taclnet_jax.errors import InputError
from taclnet_jax.files import write_text


def open_workdir(config: ConfigDict, workdir: str) -> Path:
    """Makes the folder of a run, or opens it if it belongs to the same configuration.

    Args:
        config: of the run. Settings in `FREE_KEYS` may differ between the calls of one run.
        workdir: its folder.

    Returns:
        The folder, with the configuration in config.json.

    Raises:
        InputError: the folder holds another configuration's run.
    """
    folder = Path(workdir)
    if (folder / 'config.json').exists():
        _check_same_run(
            config,
            read_config(workdir),
            workdir,
            'Choose another --workdir, or the settings of that run.',
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f'Expected --workdir to be a folder; {folder} is a file.')
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / 'config.json', json.dumps(config.to_dict(), indent=2) + '\n')
    return folder


def read_config(workdir: str) -> ConfigDict:
    """The configuration of a run.

    Raises:
        InputError: there is no run in the folder.
    """
    path = Path(workdir) / 'config.json'
    try:
        return ConfigDict(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f'Expected the folder of a run as --workdir; {path} does not exist. Train first with '
            '--mode=train.'
        ) from None
    except ValueError as error:
        raise InputError(f'{path} is damaged ({error}); choose another --workdir.') from None


def phase_one_of(folder: Path, config: ConfigDict) -> str:
    """The checkpoints of the phase one that a run ended, or went on from."""
    own = folder / 'checkpoints' / 'phase_one'
    return str(own) if any(own.glob('[0-9]*')) else config.start_from


def config_of_run(config: ConfigDict | None, workdir: str) -> ConfigDict:
    """The run's configuration, with the free settings of `config` where one is given.

    Raises:
        InputError: there is no run, or `config` is of another one.
    """
    run = read_config(workdir)
    if config is None:
        return run
    _check_same_run(config, run, workdir, 'Leave --config out to use the settings of that run.')
    for key in FREE_KEYS:
        run[key] = config[key]
    return run


def _check_same_run(config: ConfigDict, run: ConfigDict, workdir: str, advice: str) -> None:
    if found := differences(config, run):
        raise InputError(
            f'{workdir} holds the run of another configuration ({"; ".join(found)}). {advice}'
        )
