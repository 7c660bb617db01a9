"""Curves of a training run."""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from taclnet_jax.figures.panels import FONT_PX, figure_of, font_points, rendered, write_png

Line = tuple[Sequence[float], Sequence[float]]  # epochs, values

# The palette of Okabe and Ito.
_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00')

# In each panel of a training run: the last part of a record's key, and what to call it.
_CURVES: dict[str, dict[str, str]] = {
    'Cross-entropy': {'loss': 'loss'},
    'DICE and ARI (higher is better)': {'dice': 'DICE', 'ari': 'ARI'},
    'VOI, bits (lower is better)': {'voi': 'VOI', 'voi_split': 'split', 'voi_merge': 'merge'},
    'Betti error, loops (lower is better)': {'betti_error': 'Betti error'},
}


def training_curves(path: str | os.PathLike[str], records: Sequence[Mapping[str, Any]]) -> None:
    """Loss and validation metrics against epoch, with the borders between phases marked.

    Args:
        path: PNG file to write.
        records: the lines of metrics.jsonl. Used are `epoch`, `phase` (number or name) and the
            keys that end in `/loss`, `/dice`, `/ari`, `/voi`, `/voi_split`, `/voi_merge`,
            `/betti_error`, such as `train/loss`, `validation/voi`. Several values of one epoch
            are averaged; records without an epoch and values that are not finite are left out.

    Raises:
        OSError: if the file cannot be written; nothing of it is left behind.
    """
    records = [record for record in records if _finite(record.get('epoch'))]
    curves = {title: _lines(records, names) for title, names in _CURVES.items()}
    shown = {title: lines for title, lines in curves.items() if lines} or {'Cross-entropy': {}}
    rows, columns = -(-len(shown) // 2), min(len(shown), 2)
    figure = figure_of(640 * columns, 390 * rows, layout='constrained')
    for place, (title, lines) in enumerate(shown.items(), start=1):
        axis = figure.add_subplot(rows, columns, place)
        draw_curves(axis, title, lines)
        _mark_phases(axis, records)
    write_png(path, rendered(figure))


def draw_curves(
    axis: Axes,
    title: str,
    lines: Mapping[str, Line],
    *,
    x_label: str = 'Epoch',
    colours: Sequence[Any] = _COLOURS,
) -> None:
    """Draws curves, by their names in the legend, over epochs or whatever `x_label` says."""
    for (label, (epochs, values)), colour in zip(lines.items(), cycle(colours), strict=False):
        # A single epoch is a point, which a line alone would not show.
        marker = 'o' if len(epochs) < 40 else None
        axis.plot(epochs, values, color=colour, label=label, lw=2, marker=marker, ms=4)
    axis.set_title(title, fontsize=font_points(FONT_PX), loc='left')
    axis.set_xlabel(x_label, fontsize=font_points(0.9 * FONT_PX))
    axis.tick_params(labelsize=font_points(0.85 * FONT_PX))
    axis.margins(y=0.12)  # room for the names of the phases
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.spines[['top', 'right']].set_visible(False)
    axis.grid(axis='y', color='0.9')
    axis.set_axisbelow(True)
    if lines:
        axis.legend(frameon=False, fontsize=font_points(0.85 * FONT_PX))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _lines(records: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, Line]:
    """Epochs and mean values, by their label, of the keys that end in one of `names`."""
    values: dict[str, dict[float, list[float]]] = {}
    for record in records:
        for key, value in record.items():
            group, slash, name = key.rpartition('/')
            if slash and name in names and _finite(value):
                of_epoch = values.setdefault(f'{group.replace("/", " ")}: {names[name]}', {})
                of_epoch.setdefault(record['epoch'], []).append(value)
    return {
        label: (sorted(of_epoch), [float(np.mean(of_epoch[epoch])) for epoch in sorted(of_epoch)])
        for label, of_epoch in values.items()
    }


def _mark_phases(axis: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    epochs: dict[Any, list[float]] = {}
    for record in records:
        if 'phase' in record:
            epochs.setdefault(record['phase'], []).append(record['epoch'])
    for before, after in pairwise(sorted(epochs, key=lambda phase: min(epochs[phase]))):
        border = (max(epochs[before]) + min(epochs[after])) / 2
        axis.axvline(border, color='0.45', ls='--', lw=1.2)
        axis.annotate(
            f'{after} →' if isinstance(after, str) else f'phase {after} →',
            (border, 1),
            xytext=(4, -2),
            xycoords=('data', 'axes fraction'),
            textcoords='offset points',
            va='top',
            color='0.35',
            fontsize=font_points(0.8 * FONT_PX),
        )
