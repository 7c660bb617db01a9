"""The configurations that come with the package: `configs/` of the checkout, or of the wheel."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from taclnet_jax.errors import InputError

_PACKAGE = Path(__file__).parents[1]
# A wheel has it inside the package, a checkout beside it.
_FOLDERS = (_PACKAGE / 'configs', _PACKAGE.parent / 'configs')


def config_names() -> list[str]:
    """Names that `config_path` knows."""
    return sorted(path.stem for path in _folder().glob('*.py') if path.stem != '__init__')


def config_path(name: str) -> Path:
    """The file of a shipped configuration, such as 'isbi12'; InputError if there is none."""
    if name not in config_names():
        raise InputError(
            f'Expected a configuration out of {", ".join(config_names())}, or the path of a '
            f'Python file; found {name!r}.'
        )
    return _folder() / f'{name}.py'


def read_config_file(name: str) -> ConfigDict:
    """What `get_config()` of a shipped configuration returns."""
    config: ConfigDict = runpy.run_path(str(config_path(name)))['get_config']()
    return config


def _folder() -> Path:
    return next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
