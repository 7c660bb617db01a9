"""Pictures in a grid, each pixel a square of whole screen pixels."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

DPI = 100


# On screen: a panel's side, the room for its title, gaps, a colour bar with its numbers, letters.
_PANEL_PX, _TITLE_PX, _TITLE_WIDTH_PX, _GAP_PX, _BAR_PX, FONT_PX = 512, 34, 340, 14, 44, 20


class Panel(NamedTuple):
    title: str
    rgb: NDArray[np.uint8]  # [height, width, 3]
    colour_map: str | None = None  # with one, a bar from 0 to 1 stands beside the panel


def as_bytes(rgb: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(255 * rgb).astype(np.uint8)


def coloured(values: NDArray, colour_map: str) -> NDArray[np.uint8]:
    # A colour map reads integers as places in its table: booleans and integers become floats.
    values = np.nan_to_num(values.astype(np.float64))
    return mpl.colormaps[colour_map](values, bytes=True)[..., :3]


def screen_scale(shape: tuple[int, ...]) -> float:
    """Screen pixels per pixel of a section: a whole number, or below 1 for large sections."""
    area, longest = math.prod(shape), max(shape)
    scale = min(_PANEL_PX / math.sqrt(area), 1.6 * _PANEL_PX / longest)
    return max(1, round(scale)) if scale > 0.75 else scale


def grid(panels: Sequence[Panel], columns: int) -> NDArray[np.uint8]:
    """Draws panels of one shape row by row, each on a whole number of screen pixels."""
    shape = panels[0].rgb.shape[:2]
    scale = screen_scale(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    rows = -(-len(panels) // columns)
    bars = [any(panel.colour_map for panel in panels[k::columns]) for k in range(columns)]
    widths = [max(width, _TITLE_WIDTH_PX) + _GAP_PX + (_BAR_PX if bar else 0) for bar in bars]
    total_width, total_height = (
        _GAP_PX + sum(widths),
        _GAP_PX + rows * (_TITLE_PX + height + _GAP_PX),
    )
    figure = Figure((total_width / DPI, total_height / DPI), dpi=DPI, facecolor='white')

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
            fontsize=font_points(FONT_PX),
        )
        if panel.colour_map is not None:
            scale_of = ScalarMappable(Normalize(0, 1), panel.colour_map)
            bar = figure.colorbar(
                scale_of, cax=axes_at(left + width + 6, top, 12), ticks=[0, 0.5, 1]
            )
            bar.ax.set_yticklabels(['0', '0.5', '1'])
            bar.ax.tick_params(labelsize=font_points(0.8 * FONT_PX), length=3, pad=2)
            bar.outline.set_linewidth(0.5)
    return rendered(figure)


def font_points(pixels: float) -> float:
    return pixels * 72 / DPI


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
