"""The poster's Fig. 1: attention over the epochs of a phase two, trained once more to see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from numpy.typing import NDArray

from taclnet_jax import figures
from taclnet_jax.attention import sta_attention
from taclnet_jax.config import to_config
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import read_window
from taclnet_jax.errors import InputError
from taclnet_jax.inference import Model
from taclnet_jax.main import train_and_evaluate
from taclnet_jax.training.checkpoints import phase_one_of
from taclnet_jax.training.setup import prepare

_SIDE_PX = 256  # of a map of one epoch, on screen
# Of the palette of Okabe and Ito.
_RED, _BLUE = (0.84, 0.37, 0.0), (0.0, 0.45, 0.7)


def attention_over_epochs(path: Path, workdir: Path, model: Model, volume: Volume) -> None:
    """Fig. 1: attention to a training sample in the epochs of phase two, without and with ITA.

    Phase two is trained once more from the run's phase one, to have the parameters after each
    epoch; this takes place in a folder beside the run's. The sample is the middle one of the
    training crops; the curves below are means over samples from all of them. Both forms of o come
    from the same network, so that they differ in ITA alone.

    Args:
        path: of the picture.
        workdir: of a finished run.
        model: its network.
        volume: that it was trained on.
    """
    prob, attention = _epochs(workdir, model.settings, volume)
    smoothed = iterate(attention, model.settings.attention.beta)
    rows = {'P': prob, 'o without ITA': attention, 'o with ITA': smoothed}
    epochs, samples = prob.shape[:2]
    shown = np.unique(np.linspace(0, epochs - 1, 6).round().astype(int)).tolist()
    panels = []
    for name, maps in rows.items():
        colour_map = 'gray_r' if name == 'P' else 'inferno'
        for epoch in shown:
            panels.append(
                figures.Panel(
                    f'{name}, epoch {epoch + 1}' if epoch == 0 else f'epoch {epoch + 1}',
                    figures.coloured(maps[epoch, samples // 2], colour_map),
                    colour_map if epoch == shown[-1] else None,
                )
            )
    maps_of_epochs = figures.grid(panels, len(shown), side_px=_SIDE_PX)
    figure = figures.figure_of(maps_of_epochs.shape[1], 360, layout='constrained')
    axis = figure.add_subplot()
    counted = range(2, epochs + 1)
    changes = {
        name: (counted, np.abs(np.diff(maps, axis=0)).mean((1, 2, 3)).tolist())
        for name, maps in rows.items()
        if name != 'P'
    }
    title = f'Mean change from the epoch before, {samples} samples'
    figures.draw_curves(axis, title, changes, x_label='Epoch of phase two', colours=(_RED, _BLUE))
    axis.set_ylim(bottom=0)
    figures.write_png(path, np.concatenate([maps_of_epochs, figures.rendered(figure)]))


def iterate(attention: NDArray, beta: float) -> NDArray:
    """ITA over epochs: o_t = beta o_{t-1} + (1 - beta) o_t, the first as it is.

    Args:
        attention: o of each epoch, `[epochs, height, width]`.
        beta: weight of the epoch before.
    """
    smoothed = attention.copy()
    for t in range(1, len(attention)):
        smoothed[t] = beta * smoothed[t - 1] + (1 - beta) * attention[t]
    return smoothed


def _epochs(workdir: Path, settings: RunSettings, volume: Volume) -> tuple[NDArray, NDArray]:
    """P and o, `[epochs, samples, height, width]` each, of training samples after each epoch."""
    config = to_config(settings)
    folder = workdir.with_name(f'{workdir.name}_epochs')
    if config.phase_two.epochs < 2:
        raise InputError(
            f'Expected a run with several epochs of phase two, found {config.phase_two.epochs} in '
            f'{workdir}.'
        )
    config.start_from = phase_one_of(workdir, config.start_from)
    config.checkpoint.keep = 2 * config.phase_two.epochs  # interrupts leave some of their own
    config.checkpoint.every_epochs = 1
    # Only its parameters are of interest.
    config.evaluate.every_epochs = config.phase_one.epochs + config.phase_two.epochs
    config.evaluate.threshold_from = 'fixed'
    config.evaluate.test_sections = 1
    train_and_evaluate(config, str(folder))
    training = prepare(settings, volume)
    samples, slices = training.loader.samples, settings.sampling.slices
    image = normalised(training.loader.volume.image)
    windows = [
        read_window(
            image,
            int(samples.section[k]),
            range(*samples.stretch[k].tolist()),
            slices,
            slice(samples.y[k], samples.y[k] + samples.crop[0]),
            slice(samples.x[k], samples.x[k] + samples.crop[1]),
        )
        for k in np.unique(np.linspace(0, len(samples) - 1, 17).astype(int))
    ]

    @jax.jit
    def attend(variables: Any) -> tuple[jax.Array, jax.Array]:
        logits: Any = training.network.apply(variables, np.stack(windows))
        prob = jax.nn.sigmoid(logits)
        return prob[:, slices // 2], sta_attention(prob, **settings.attention.options).attention

    kept, per_epoch = folder.absolute() / 'checkpoints' / 'last', training.loader.steps_per_epoch
    ends = [training.steps - k * per_epoch for k in reversed(range(config.phase_two.epochs))]
    with ocp.StandardCheckpointer() as reader:
        outputs = [attend(reader.restore(kept / str(step) / 'variables')) for step in ends]
    prob = np.stack([np.asarray(prob) for prob, _ in outputs])
    return prob, np.stack([np.asarray(attention) for _, attention in outputs])
