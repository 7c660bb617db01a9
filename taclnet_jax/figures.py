"""Pictures of sections, attention and training, for files and TensorBoard.

Membrane is dark in every picture, as it is in the microscope. Every pixel of a section that is
not scaled down is a square of whole screen pixels. The colours can be told apart with any form
of colour vision. Nothing here touches pyplot's global state, and a file is written whole or not
at all.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from skimage.morphology import dilation, disk

from taclnet_jax.errors import InputError

_DPI = 100
# On screen: a panel's side, the room for its title, gaps, a colour bar with its numbers, letters.
_PANEL_PX, _TITLE_PX, _TITLE_WIDTH_PX, _GAP_PX, _BAR_PX, _FONT_PX = 512, 34, 340, 14, 44, 20
# The palette of Okabe and Ito.
_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00')
_SKY, _RED = (0.34, 0.71, 0.91), (0.88, 0.05, 0.04)


class _Panel(NamedTuple):
    title: str
    rgb: NDArray[np.uint8]  # [height, width, 3]
    colour_map: str | None = None  # with one, a bar from 0 to 1 stands beside the panel


def attention_panels(
    path: str | os.PathLike[str] | None,
    section: ArrayLike,
    critical_map: ArrayLike,
    attention: ArrayLike,
    refined: ArrayLike,
    prob: ArrayLike | None = None,
) -> NDArray[np.uint8]:
    """The poster's Fig. 5: section, critical points CP, attention o, and P_hat on the section.

    The last panel lays P_hat over the section in blue and o over both in red. The points of CP
    and o are widened, keeping their values, where they would be too small to see.

    Args:
        path: PNG file to write, or None.
        section: the image, `[height, width]`, any scale.
        critical_map: smooth critical points CP of the section, `[height, width]` in [0, 1].
        attention: attention map o, likewise.
        refined: P_hat, likewise.
        prob: P, likewise; adds P and P_hat as two panels beside the section.

    Returns:
        The picture, `[height, width, 3]` uint8.

    Raises:
        InputError: if the maps are not all `[height, width]` of the section.
        OSError: if the file cannot be written; nothing of it is left behind.
    """
    image, maps = _checked(
        section, critical_map=critical_map, attention=attention, refined=refined, prob=prob
    )
    points, o = _widened(maps['critical_map']), _widened(maps['attention'])
    panels = [_Panel('Section', _coloured(image, 'gray'))]
    if 'prob' in maps:
        panels += [
            _Panel('Membrane P', _coloured(maps['prob'], 'gray_r'), 'gray_r'),
            _Panel(r'Refined $\hat{P}$', _coloured(maps['refined'], 'gray_r'), 'gray_r'),
        ]
    panels += [
        _Panel('Critical points CP', _coloured(points, 'inferno'), 'inferno'),
        _Panel('Attention o', _coloured(o, 'inferno'), 'inferno'),
        _Panel(r'$\hat{P}$ (blue) and o (red) on section', _overlay(image, maps['refined'], o)),
    ]
    picture = _grid(panels, columns=len(panels) // 2)
    if path is not None:
        write_png(path, picture)
    return picture


def section_comparison(
    path: str | os.PathLike[str],
    section: ArrayLike,
    true_membrane: ArrayLike,
    prob: ArrayLike,
    refined: ArrayLike | None,
    true_segments: ArrayLike,
    segments: ArrayLike,
    segments_refined: ArrayLike | None,
    segments_closed: ArrayLike,
) -> NDArray[np.uint8]:
    """One section beside its truth, P, P_hat and the segments of each, before and after closing.

    Membrane is black. A predicted segment has the colour of the true segment where each is the
    other's largest overlap, and a colour of its own otherwise: two colours inside one true cell
    are a split, one colour over two of them a merge.

    Args:
        path: PNG file to write.
        section: the image, `[height, width]`, any scale.
        true_membrane: boolean mask of the same shape.
        prob: P in [0, 1], likewise.
        refined: P_hat, likewise; None, as `segments_refined`, for a system without attention.
        true_segments: integers, 0 = membrane, likewise.
        segments: those of P.
        segments_refined: those of P_hat, or None.
        segments_closed: those after `taclnet_jax.metrics.close_membranes`, over the section.

    Returns:
        The picture, `[height, width, 3]` uint8.

    Raises:
        InputError: if the arrays are not all `[height, width]` of the section.
        OSError: if the file cannot be written; nothing of it is left behind.
    """
    image, maps = _checked(
        section,
        true_membrane=true_membrane,
        prob=prob,
        refined=refined,
        true_segments=true_segments,
        segments=segments,
        segments_refined=segments_refined,
        segments_closed=segments_closed,
    )
    truth = maps['true_segments']
    top = [
        _Panel('Section', _coloured(image, 'gray')),
        _Panel('True membrane', _coloured(maps['true_membrane'], 'gray_r')),
        _Panel('Membrane P', _coloured(maps['prob'], 'gray_r'), 'gray_r'),
    ]
    bottom = [
        _Panel(
            'Closed segments on section', _tinted(image, _matched(truth, maps['segments_closed']))
        ),
        _Panel('True segments', _segment_colours(truth)),
        _Panel('Segments of P', _segment_colours(_matched(truth, maps['segments']))),
    ]
    if 'refined' in maps and 'segments_refined' in maps:
        matched = _matched(truth, maps['segments_refined'])
        # One bar, at the end of the row, serves P and P_hat.
        top[-1] = top[-1]._replace(colour_map=None)
        top.append(_Panel(r'Refined $\hat{P}$', _coloured(maps['refined'], 'gray_r'), 'gray_r'))
        bottom.append(_Panel(r'Segments of $\hat{P}$', _segment_colours(matched)))
    picture = _grid(top + bottom, columns=len(top))
    write_png(path, picture)
    return picture


# Panels of a training run: the last part of a record's key, what to call it, and in which panel.
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
    curves = {title: _curves(records, names) for title, names in _CURVES.items()}
    shown = {title: lines for title, lines in curves.items() if lines} or {'Cross-entropy': {}}
    rows, columns = -(-len(shown) // 2), min(len(shown), 2)
    figure = Figure((6.4 * columns, 3.9 * rows), dpi=_DPI, layout='constrained')
    for place, (title, lines) in enumerate(shown.items(), start=1):
        axis = figure.add_subplot(rows, columns, place)
        _draw_curves(axis, title, lines)
        _mark_phases(axis, records)
    write_png(path, rendered(figure))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _curves(
    records: Iterable[Mapping[str, Any]], names: Mapping[str, str]
) -> dict[str, tuple[list[float], list[float]]]:
    """{key: (epochs, mean values)} of the keys that end in one of `names`."""
    values: dict[str, dict[float, list[float]]] = {}
    for record in records:
        for key, value in record.items():
            if '/' in key and key.rsplit('/', 1)[1] in names and _finite(value):
                values.setdefault(key, {}).setdefault(record['epoch'], []).append(value)
    return {
        key: (sorted(of_epoch), [float(np.mean(of_epoch[epoch])) for epoch in sorted(of_epoch)])
        for key, of_epoch in values.items()
    }


def _draw_curves(
    axis: Axes, title: str, lines: Mapping[str, tuple[list[float], list[float]]]
) -> None:
    for (key, (epochs, values)), colour in zip(lines.items(), _COLOURS * 3, strict=False):
        group, name = key.rsplit('/', 1)
        label = f'{group.replace("/", " ")}: {_CURVES[title][name]}'
        # A single epoch is a point, which a line alone would not show.
        marker = 'o' if len(epochs) < 40 else None
        axis.plot(epochs, values, color=colour, label=label, lw=2, marker=marker, ms=4)
    axis.set_title(title, fontsize=_points(_FONT_PX), loc='left')
    axis.set_xlabel('Epoch', fontsize=_points(0.9 * _FONT_PX))
    axis.tick_params(labelsize=_points(0.85 * _FONT_PX))
    axis.margins(y=0.12)  # room for the names of the phases
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.spines[['top', 'right']].set_visible(False)
    axis.grid(axis='y', color='0.9')
    axis.set_axisbelow(True)
    if lines:
        axis.legend(frameon=False, fontsize=_points(0.85 * _FONT_PX))


def _mark_phases(axis: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    last_epoch: dict[Any, float] = {}
    first_epoch: dict[Any, float] = {}
    for record in records:
        if 'phase' in record:
            phase, epoch = record['phase'], record['epoch']
            last_epoch[phase] = max(last_epoch.get(phase, epoch), epoch)
            first_epoch[phase] = min(first_epoch.get(phase, epoch), epoch)
    phases = sorted(first_epoch, key=first_epoch.__getitem__)
    for before, after in zip(phases, phases[1:], strict=False):
        border = (last_epoch[before] + first_epoch[after]) / 2
        axis.axvline(border, color='0.45', ls='--', lw=1.2)
        axis.annotate(
            f'{after} →' if isinstance(after, str) else f'phase {after} →',
            (border, 1),
            xytext=(4, -2),
            xycoords=('data', 'axes fraction'),
            textcoords='offset points',
            va='top',
            color='0.35',
            fontsize=_points(0.8 * _FONT_PX),
        )


def _checked(
    section: ArrayLike, **maps: ArrayLike | None
) -> tuple[NDArray[np.float64], dict[str, NDArray]]:
    """The section with its contrast stretched to [0, 1], and the maps that are given."""
    image = np.asarray(section, np.float64)
    arrays = {name: np.asarray(values) for name, values in maps.items() if values is not None}
    for name, values in {'section': image, **arrays}.items():
        if values.ndim != 2 or values.shape != image.shape or not values.size:
            raise InputError(
                f'A picture takes maps [height, width] of one shape; got {name} of shape '
                f'{values.shape} beside a section of shape {image.shape}.'
            )
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0, 0)
    if high <= low:
        return np.full(image.shape, 0.5), arrays
    return np.clip((np.nan_to_num(image, nan=low) - low) / (high - low), 0, 1), arrays


def _bytes(rgb: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(255 * rgb).astype(np.uint8)


def _coloured(values: NDArray, colour_map: str) -> NDArray[np.uint8]:
    # A colour map reads integers as places in its table: booleans and integers become floats.
    values = np.nan_to_num(values.astype(np.float64))
    return mpl.colormaps[colour_map](values, bytes=True)[..., :3]


def _overlay(image: NDArray, refined: NDArray, attention: NDArray) -> NDArray[np.uint8]:
    """The section under P_hat in blue under the attention in red."""
    rgb = np.repeat(image[..., None], 3, axis=-1)
    for values, colour, opacity in ((refined, _SKY, 0.5), (attention, _RED, 1.0)):
        weight = opacity * np.clip(np.nan_to_num(values), 0, 1)[..., None]
        rgb = (1 - weight) * rgb + weight * np.array(colour)
    return _bytes(rgb)


def _tinted(image: NDArray, segments: NDArray) -> NDArray[np.uint8]:
    """The section under the colours of its segments."""
    weight = np.where(segments != 0, 0.4, 0.0)[..., None]
    return _bytes((1 - weight) * image[..., None] + weight * _segment_colours(segments) / 255)


def _widened(values: NDArray) -> NDArray:
    """Points of 3 pixels, the width of a Gaussian of sigma 1, brought to 7 on screen."""
    radius = round((7 / _scale(values.shape) - 3) / 2)
    if radius <= 0:
        return values
    return dilation(np.nan_to_num(values), disk(radius, decomposition='sequence'))


def _segment_colours(segments: NDArray) -> NDArray[np.uint8]:
    """A colour for each number, always the same one; 0 is black.

    Hue, saturation and value advance by irrational steps, so that numbers near each other get
    colours far apart, in lightness too.
    """
    numbers, places = np.unique(segments, return_inverse=True)
    hue = numbers * 0.61803399 % 1
    saturation = 0.35 + 0.5 * (numbers * 0.75487767 % 1)
    value = 0.5 + 0.5 * (numbers * 0.56984029 % 1)
    palette = _bytes(hsv_to_rgb(np.stack([hue, saturation, value], axis=-1)))
    palette[numbers == 0] = 0
    return palette[places.reshape(segments.shape)]


def _matched(true: NDArray, segments: NDArray) -> NDArray[np.int64]:
    """Renumbers segments: the true number where each is the other's largest overlap."""
    numbers, places = np.unique(segments, return_inverse=True)
    places = places.reshape(segments.shape)
    cells, inside = np.unique(true.astype(np.int64), return_inverse=True)
    pairs, sizes = np.unique(inside.reshape(-1) * len(numbers) + places.ravel(), return_counts=True)
    i, j = np.divmod(pairs[np.argsort(sizes, kind='stable')], len(numbers))
    kept = (cells[i] != 0) & (numbers[j] != 0)
    i, j = i[kept], j[kept]
    # Of several assignments to one place the last stands: the largest overlap.
    best_of_cell, best_of_segment = np.full(len(cells), -1), np.full(len(numbers), -1)
    best_of_cell[i], best_of_segment[j] = j, i
    mutual = best_of_cell[best_of_segment] == np.arange(len(numbers))
    mutual &= best_of_segment >= 0
    unused = cells.max() + 1 + np.arange(len(numbers))
    renumbered = np.where(mutual, cells[best_of_segment], unused)
    renumbered[numbers == 0] = 0
    return renumbered[places]


def _scale(shape: tuple[int, ...]) -> float:
    """Screen pixels per pixel of a section: a whole number, or below 1 for large sections."""
    area, longest = math.prod(shape), max(shape)
    scale = min(_PANEL_PX / math.sqrt(area), 1.6 * _PANEL_PX / longest)
    return max(1, round(scale)) if scale > 0.75 else scale


def _grid(panels: Sequence[_Panel], columns: int) -> NDArray[np.uint8]:
    """Draws panels of one shape row by row, each on a whole number of screen pixels."""
    shape = panels[0].rgb.shape[:2]
    scale = _scale(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    rows = -(-len(panels) // columns)
    bars = [any(panel.colour_map for panel in panels[k::columns]) for k in range(columns)]
    widths = [max(width, _TITLE_WIDTH_PX) + _GAP_PX + (_BAR_PX if bar else 0) for bar in bars]
    total_width, total_height = (
        _GAP_PX + sum(widths),
        _GAP_PX + rows * (_TITLE_PX + height + _GAP_PX),
    )
    figure = Figure((total_width / _DPI, total_height / _DPI), dpi=_DPI, facecolor='white')

    def axes_at(left: int, top: int, width: int) -> Axes:
        box = (left, total_height - top - height, width, height)
        return figure.add_axes(tuple(np.divide(box, (total_width, total_height) * 2)))

    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        left = _GAP_PX + sum(widths[:column])
        top = _GAP_PX + _TITLE_PX + row * (_TITLE_PX + height + _GAP_PX)
        axis = axes_at(left, top, width)
        axis.imshow(
            panel.rgb, interpolation='nearest' if scale >= 1 else 'antialiased', aspect='auto'
        )
        axis.set_axis_off()
        figure.text(
            left / total_width,
            1 - (top - 8) / total_height,
            panel.title,
            va='bottom',
            fontsize=_points(_FONT_PX),
        )
        if panel.colour_map is not None:
            scale_of = ScalarMappable(Normalize(0, 1), panel.colour_map)
            bar = figure.colorbar(
                scale_of, cax=axes_at(left + width + 6, top, 12), ticks=[0, 0.5, 1]
            )
            bar.ax.set_yticklabels(['0', '0.5', '1'])
            bar.ax.tick_params(labelsize=_points(0.8 * _FONT_PX), length=3, pad=2)
            bar.outline.set_linewidth(0.5)
    return rendered(figure)


def _points(pixels: float) -> float:
    return pixels * 72 / _DPI


def rendered(figure: Figure) -> NDArray[np.uint8]:
    """The pixels of a figure, `[height, width, 3]`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_png(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> None:
    """Writes under another name first: whoever looks finds the old file or the whole new one."""
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, format='PNG')
    path = Path(path)
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        unfinished.write_bytes(encoded.getvalue())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
