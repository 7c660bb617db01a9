"""A network of made-up parameters whose windows are small, and predictions with it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from commands import small_settings
from networks import initialise

from taclnet_jax.config.schema import as_nested
from taclnet_jax.config.settings import CheckpointSettings
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.inference import Cut, Model
from taclnet_jax.metrics.maps import MAPS
from taclnet_jax.models import create_model
from taclnet_jax.prediction.predict import Options, predict_volume
from taclnet_jax.training.checkpoints import Checkpoints
from taclnet_jax.training.state import EpochLoss, TrainState
from taclnet_jax.volumes import open_array, read_whole, write_array

CUT = Cut(0.5, 0.25)  # of the fixed threshold
STEP = 7
RESOLUTION_NM = (40.0, 4.0, 4.0)
EVERY = ('membrane', 'refined', 'attention', 'segments')


@cache
def model(downsample: int = 1, scale: float = 1, **changes: Any) -> Model:
    """The network, with parameters of a scale, and windows of 64 pixels of the volume."""
    small = {'model__name': 'recurrent_unet', 'model__features': (4, 6)}
    windows = {
        'evaluate__window_px': 64 // downsample,
        'evaluate__window_halo_px': 8,
        'evaluate__tile_px': 64,
    }
    settings = small_settings(**{'downsample': downsample, **small, **windows, **changes})
    network = create_model(settings.model, settings.precision)
    seen = np.zeros((1, settings.sampling.slices, 16, 16), np.float32)
    variables = jax.tree.map(lambda leaf: scale * leaf, initialise(network, seen))
    return Model(settings, network, variables, STEP, dict.fromkeys(MAPS, CUT), RESOLUTION_NM)


def tiny(slices: int = 3, scale: float = 6, **changes: Any) -> Model:
    """A network that is even smaller, with windows of 32 pixels."""
    convlstm: dict[str, Any] = {'model__name': 'convlstm', 'model__hidden': (2,)}
    windows = {
        'evaluate__window_px': 32,
        'evaluate__window_halo_px': 8,
        'evaluate__threshold_from': 'training',
    }
    return model(**{'slices': slices, 'scale': scale, **convlstm, **windows, **changes})


def image(shape: tuple[int, int, int], seed: int = 4) -> np.ndarray:
    """Sections of any size."""
    depth, height, width = shape
    made = synthetic_volume(seed=seed, shape=(depth, -(-height // 32) * 32, -(-width // 32) * 32))
    return made.image[:, :height, :width].copy()


def write_run(folder: Path, used: Model) -> Path:
    """The folder of a run that has trained and evaluated the network."""
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps(as_nested(used.settings)))
    scores: dict[str, Any] = {name: cut._asdict() for name, cut in used.chosen.items()}
    scores |= {'resolution_nm': used.resolution_nm, 'step': STEP}
    (folder / 'results.json').write_text(json.dumps(scores))
    variables = jax.tree.map(np.asarray, used.variables)
    state = TrainState(np.array(STEP), variables, None, np.zeros(1), None, EpochLoss.create())
    checkpoints = Checkpoints(folder, CheckpointSettings(best_metric='voi'), {})
    checkpoints.offer(state, {'voi': 1.0})
    checkpoints.close()
    return folder


def predicted(
    folder: Path, used: Model, stack: np.ndarray | None = None, **options: Any
) -> dict[str, np.ndarray]:
    """What is predicted of `stack.tif` in a folder, which `stack` is written to before."""
    folder.mkdir(exist_ok=True)
    if stack is not None:
        write_array(folder / 'stack.tif', stack)
    chosen = Options(**{'names': EVERY, 'dtype': 'float32', 'overwrite': True} | options)
    predict_volume(used, str(folder / 'stack.tif'), folder / 'out', chosen)
    return {name: read_whole(open_array(folder / 'out' / f'{name}.tif')) for name in chosen.names}


def same_up_to_numbers(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are divided alike."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)
