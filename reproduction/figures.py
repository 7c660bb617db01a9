"""The poster's Fig. 1, 4 and 5, drawn from the networks of finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from matplotlib.patches import Patch
from numpy.typing import NDArray
from skimage.morphology import dilation, disk
from skimage.segmentation import expand_labels

from reproduction.systems import SYSTEMS, Run
from taclnet_jax import figures, metrics
from taclnet_jax.attention import sta_attention
from taclnet_jax.config import run_settings, same_run, to_config
from taclnet_jax.data import load_volume
from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import read_window, split_sections, targets_of
from taclnet_jax.errors import InputError
from taclnet_jax.inference import Model, SectionPrediction, load, predict_sections
from taclnet_jax.main import train_and_evaluate
from taclnet_jax.metrics.overlaps import MIN_PIXELS, MIN_SHARE
from taclnet_jax.training.checkpoints import phase_one_of
from taclnet_jax.training.setup import prepare

# Of a section, in the middle of it: more than this is too small to see.
_PATCH_PX = 384
_SIDE_PX = 256  # of a map of one epoch, on screen
_SYSTEMS = {
    1: ('taclnet',),
    4: ('unet', 'topoloss', 'convlstm', 'taclnet', 'recurrent_unet', 'recurrent_taclnet'),
    5: ('recurrent_taclnet', 'taclnet'),
}
# Of the palette of Okabe and Ito, told apart by lightness as well.
_RED, _BLUE, _SKY = (0.84, 0.37, 0.0), (0.0, 0.45, 0.7), (0.34, 0.71, 0.91)


class Network(NamedTuple):
    """The network of a finished run."""

    run: Run
    folder: Path
    model: Model
    volume: Volume


def make_figure(
    number: int,
    base: Any,
    systems: Sequence[str] | None,
    fold: int,
    seed: int,
    section: int | None,
    workdir: Path,
    results: Path,
) -> Path:
    """Draws a figure of the poster and returns its path, below `<results>/figures`.

    Args:
        number: 1 (attention over epochs), 4 (segmentations) or 5 (attention on a section).
        base: the data set's configuration, which says where its files are.
        systems: which, those of the figure if None. Figure 4 leaves out those without a run; the
            others take the first that has one.
        fold, seed: of the runs.
        section: of the volume; None for the middle one of those that are scored.
        workdir: folder of the runs.
        results: folder of results.

    Raises:
        InputError: there is no run to draw from, or the section is none of those scored.
    """
    wanted = systems or _SYSTEMS[number]
    networks = [
        network
        for system in wanted
        if (network := _network(base, workdir, Run(base.dataset, system, fold, seed)))
    ]
    if not networks:
        raise InputError(
            f'Expected a finished run of {", ".join(wanted)} on {base.dataset}, fold {fold}, seed '
            f'{seed} in {workdir}, found none. Make it with --table=1 and --systems.'
        )
    path = results / 'figures' / f'figure{number}_{base.dataset}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    if number == 1:
        attention_over_epochs(path, networks[0])
    elif number == 4:
        segmentations(path, networks, section)
    else:
        attention_on_section(path, networks[0], section)
    return path


def segmentations(path: Path, networks: Sequence[Network], section: int | None) -> None:
    """Fig. 4: a patch, its truth, and each system's segmentation with its errors marked."""
    volume = networks[0].volume
    target = _target(networks[0], section)
    rows, columns = _middle(volume)
    z = target[0]
    assert volume.membrane is not None
    ignore = None if volume.ignore is None else volume.ignore[z, rows, columns]
    truth = metrics.true_segments(
        volume.membrane[z, rows, columns],
        None if volume.ids is None else volume.ids[z, rows, columns],
        ignore,
    )
    section_itself = figures.stretched(volume.image[z, rows, columns])
    panels = [
        figures.Panel(f'Section {z}', figures.coloured(section_itself, 'gray')),
        figures.Panel('Truth', _drawn(truth == 0)),
    ]
    for network in networks:
        prediction = _predict(network, target)
        system = SYSTEMS[network.run.system]
        prob = prediction.prob if system.scored == 'P' else prediction.refined
        cut = network.model.cut(system.scored)
        segments = metrics.segment(prob[rows, columns], cut.threshold, ignore)
        splits, merges = metrics.false_splits_and_merges(truth, segments)
        found = f'{_count(splits, "split")}, {_count(merges, "merge")}'
        marked = _drawn(segments == 0, *error_marks(truth, segments))
        panels.append(figures.Panel(system.title, marked, note=found))
    figures.write_png(path, _with_legend(panels))


def error_marks(truth: NDArray, segments: NDArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where cells are cut and where they are joined.

    A true cell that is split is divided among the segments nearest to its pixels, a segment that
    merges cells among the nearest cells; marked are the pixels along these borders. Overlaps
    count as in `taclnet_jax.metrics.false_splits_and_merges`.

    Args:
        truth: true segments `[height, width]`, 0 = membrane.
        segments: predicted ones, likewise.

    Returns:
        (cuts, joints), masks of the same shape.
    """
    both = np.zeros((truth.max() + 1, segments.max() + 1))
    np.add.at(both, (truth, segments), 1)
    both[0] = 0
    smaller = np.minimum(both.sum(1)[:, None], both[:, 1:].sum(0))
    counts = np.zeros(both.shape, bool)
    counts[:, 1:] = (both[:, 1:] >= MIN_PIXELS) & (both[:, 1:] >= MIN_SHARE * smaller)

    def borders(areas: NDArray, parts: NDArray, counts: NDArray) -> NDArray[np.bool_]:
        parts = expand_labels(parts, 2 * max(parts.shape))
        marked = np.zeros(areas.shape, bool)
        inside = (areas > 0) & counts[areas, parts]
        for one, two in (
            ((slice(None, -1),), (slice(1, None),)),
            ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ):
            border = inside[one] & inside[two] & (areas[one] == areas[two])
            border &= parts[one] != parts[two]
            marked[one] |= border
            marked[two] |= border
        return marked

    return borders(truth, segments, counts), borders(segments, truth, counts.T)


def attention_on_section(path: Path, network: Network, section: int | None) -> None:
    """Fig. 5: section, critical points CP, attention o, and P_hat with o in red."""
    prediction = _predict(network, _target(network, section))
    rows, columns = _middle(network.volume)
    figures.attention_panels(
        path,
        network.volume.image[prediction.section, rows, columns],
        prediction.critical_map[rows, columns],
        prediction.attention[rows, columns],
        prediction.refined[rows, columns],
    )


def attention_over_epochs(path: Path, network: Network) -> None:
    """Fig. 1: attention to a training sample in the epochs of phase two, without and with ITA.

    Phase two is trained once more from the run's phase one, to have the parameters after each
    epoch; this takes place in a folder beside the run's. The sample is the middle one of the
    training crops; the curves below are means over samples from all of them. Both forms of o come
    from the same network, so that they differ in ITA alone.
    """
    prob, attention = _epochs(network)
    smoothed = iterate(attention, network.model.settings.attention.beta)
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


def _epochs(network: Network) -> tuple[NDArray, NDArray]:
    """P and o, `[epochs, samples, height, width]` each, of training samples after each epoch."""
    settings, volume = network.model.settings, network.volume
    config = to_config(settings)
    folder = network.folder.with_name(f'{network.folder.name}_epochs')
    if config.phase_two.epochs < 2:
        raise InputError(
            f'Expected a run with several epochs of phase two, found {config.phase_two.epochs} in '
            f'{network.folder}.'
        )
    config.start_from = phase_one_of(network.folder, config.start_from)
    config.checkpoint.keep = config.phase_two.epochs
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
    def attend(params: Any) -> tuple[jax.Array, jax.Array]:
        logits: Any = training.network.apply({'params': params}, np.stack(windows))
        prob = jax.nn.sigmoid(logits)
        return prob[:, slices // 2], sta_attention(prob, **settings.attention.options).attention

    steps = sorted((folder / 'checkpoints' / 'last').glob('[0-9]*'), key=lambda p: int(p.name))
    with ocp.StandardCheckpointer() as reader:
        outputs = [attend(reader.restore(step.absolute() / 'params')) for step in steps]
    prob = np.stack([np.asarray(prob) for prob, _ in outputs])
    return prob, np.stack([np.asarray(attention) for _, attention in outputs])


def _network(base: Any, workdir: Path, run: Run) -> Network | None:
    """The network of a run; None if it is not finished."""
    folder = workdir / run.key
    if not (folder / 'results.json').exists():
        return None
    model = load(folder)
    model = replace(model, settings=same_run(run_settings(base), model.settings))
    return Network(run, folder, model, load_volume(model.settings.data))


def _target(network: Network, section: int | None) -> tuple[int, range]:
    """The section to draw, and the run that its window may use."""
    split = split_sections(network.volume.parts, network.model.settings.sampling)
    targets = targets_of(split.test)
    if section is None:
        return targets[len(targets) // 2]
    for target in targets:
        if target[0] == section:
            return target
    raise InputError(
        f'Expected --section to be one of those scored in fold {network.run.fold}, '
        f'{targets[0][0]} to {targets[-1][0]}; found {section}.'
    )


def _predict(network: Network, target: tuple[int, range]) -> SectionPrediction:
    model = network.model
    (prediction,) = predict_sections(
        model.inference(), model.params, network.volume.image, [target]
    )
    return prediction


def _middle(volume: Volume) -> tuple[slice, slice]:
    sizes = [min(size, _PATCH_PX) for size in volume.shape[1:]]
    rows, columns = (
        slice((whole - size) // 2, (whole - size) // 2 + size)
        for whole, size in zip(volume.shape[1:], sizes, strict=True)
    )
    return rows, columns


def _drawn(
    membrane: NDArray, cuts: NDArray | None = None, joints: NDArray | None = None
) -> NDArray[np.uint8]:
    """Membrane in black, with cuts in blue and joints in red, widened to be seen."""
    rgb = np.where(membrane[..., None], 0.0, np.full(3, 0.92))
    for marks, colour in ((cuts, _SKY), (joints, _RED)):
        if marks is not None:
            rgb[dilation(marks, disk(max(1, round(max(marks.shape) / 128))))] = colour
    return figures.as_bytes(rgb)


def _with_legend(panels: Sequence[figures.Panel]) -> NDArray[np.uint8]:
    """The panels in one row, or in two if they are many."""
    columns = len(panels) if len(panels) <= 4 else -(-len(panels) // 2)
    legend = [
        Patch(facecolor='black', label='membrane'),
        Patch(facecolor=_SKY, label='split here'),
        Patch(facecolor=_RED, label='merged here'),
    ]
    return figures.grid(panels, columns, legend=legend)


def _count(number: int, what: str) -> str:
    return f'{number} {what}' if number == 1 else f'{number} {what}s'
