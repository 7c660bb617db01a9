"""Where a `Model` comes from: a run, a folder that somebody exported, or the package itself."""

import sys
from pathlib import Path

from taclnet_jax.config import read_settings
from taclnet_jax.files import parse_json
from taclnet_jax.inference.cut import Cut, known_cut, known_voxel_size
from taclnet_jax.inference.exported import read_exported
from taclnet_jax.inference.model import Model
from taclnet_jax.metrics.maps import MAPS
from taclnet_jax.models import create_model
from taclnet_jax.models.exported import is_exported, model_folder
from taclnet_jax.training.checkpoints import best_variables
from taclnet_jax.training.data_identity import DATA


def load(place: str | Path) -> Model:
    """A trained network; no code of whoever trained it is run.

    Args:
        place: a run's workdir, of which it is the best network; a folder of `export`; or the name
            of a model that comes with the package.

    Raises:
        InputError: there is none, or it cannot be read.

    Example:
        >>> load('isbi12').resolution_nm
        (50.0, 4.0, 4.0)
    """
    folder = model_folder(place)
    if is_exported(folder):
        return read_exported(folder)
    return _of_run(folder)


def _of_run(folder: Path) -> Model:
    settings = read_settings(folder)
    step, variables = best_variables(folder)
    network = create_model(settings.model, settings.precision)
    chosen, resolution_nm = _scored(folder / 'results.json', step)
    resolution_nm = resolution_nm or _of_data(folder / DATA)
    return Model(settings, network, variables, step, chosen, resolution_nm, folder)


def _of_data(path: Path) -> tuple[float, float, float] | None:
    """The voxel size that training left, which needs no evaluation."""
    try:
        return known_voxel_size(parse_json(path.read_text())['resolution_nm'])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _scored(path: Path, step: int) -> tuple[dict[str, Cut], tuple[float, float, float] | None]:
    """What evaluation left of the network of a step.

    Nothing where it left none; of another network, or damaged, it is not used, which is said.
    """
    try:
        results = parse_json(path.read_text())
        if results['step'] != step:
            raise ValueError(f'it is of step {results["step"]}, the best network now of {step}')
        cuts = {
            name: known_cut(results[name]['threshold'], results[name]['closing']) for name in MAPS
        }
        return cuts, known_voxel_size(results['resolution_nm'])
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(
            f'{path} cannot be used ({type(error).__name__}: {error}), as if the run had not been '
            'evaluated; --mode=evaluate makes it again.',
            file=sys.stderr,
        )
    return {}, None
