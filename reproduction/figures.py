"""The poster's Fig. 4 and 5, drawn from the networks of finished runs; Fig. 1 is in epochs.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray
from skimage.morphology import dilation, disk
from skimage.segmentation import expand_labels

from reproduction.epochs import attention_over_epochs
from reproduction.systems import SYSTEMS, Run
from taclnet_jax import figures, metrics
from taclnet_jax.config import run_settings, same_run
from taclnet_jax.data import load_volume
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import split_sections, targets_of
from taclnet_jax.errors import InputError
from taclnet_jax.inference import Model, SectionPrediction, load, predict_sections
from taclnet_jax.metrics.overlaps import MIN_PIXELS, MIN_SHARE

# Of a section, in the middle of it: more than this is too small to see.
_PATCH_PX = 384
_SYSTEMS = {
    1: ('taclnet',),
    4: ('unet', 'topoloss', 'convlstm', 'taclnet', 'flagship', 'flagship_ita'),
    5: ('flagship_ita', 'taclnet'),
}
# Of the palette of Okabe and Ito, told apart by lightness as well.
_RED, _SKY = (0.84, 0.37, 0.0), (0.34, 0.71, 0.91)


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
        _, folder, model, volume = networks[0]
        attention_over_epochs(path, folder, model, volume)
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
    ignored = volume.ignored(z)
    ignore = None if ignored is None else ignored[rows, columns]
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
    split = split_sections(network.volume, network.model.settings.sampling)
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
        model.inference, model.variables, network.volume.image, [target]
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
