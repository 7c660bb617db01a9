"""Pictures in a grid, each pixel a square of whole screen pixels."""

import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from taclnet_jax.files import write_bytes

DPI = 100

# On screen: a panel's side, room for title and note, gaps, colour bar, legend, letters.
_PANEL_PX, _TITLE_PX, _NOTE_PX, _TITLE_WIDTH_PX, _GAP_PX = 512, 34, 26, 340, 14
_BAR_PX, _LEGEND_PX, FONT_PX = 44, 44, 20


class Panel(NamedTuple):
    """A picture with its title."""

    title: str  # above the picture, in smaller letters where it would be wider
    rgb: NDArray[np.uint8]  # `[height, width, 3]`
    colour_map: str | None = None  # with one, a bar from 0 to 1 stands beside the picture
    note: str = ''  # a second line below the title
    overlay: Callable[[Axes], object] | None = None  # draws over the picture, in its pixels


def as_bytes(rgb: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(255 * rgb).astype(np.uint8)


def coloured(values: NDArray, colour_map: str) -> NDArray[np.uint8]:
    # A colour map reads integers as places in its table: booleans and integers become floats.
    values = np.nan_to_num(values.astype(np.float64))
    return mpl.colormaps[colour_map](values, bytes=True)[..., :3]


def stretched(image: NDArray) -> NDArray[np.float64]:
    """An image with its contrast stretched to [0, 1]; 0.5 where it has none."""
    image = np.asarray(image, np.float64)
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0, 0)
    if high <= low:
        return np.full(image.shape, 0.5)
    return np.clip((np.nan_to_num(image, nan=low) - low) / (high - low), 0, 1)


def screen_scale(shape: tuple[int, ...], side_px: int = _PANEL_PX) -> float:
    """Screen pixels per pixel of a section: a whole number, or below 1 for large sections."""
    area, longest = math.prod(shape), max(shape)
    scale = min(side_px / math.sqrt(area), 1.6 * side_px / longest)
    return max(1, round(scale)) if scale > 0.75 else scale


def grid(
    panels: Sequence[Panel],
    columns: int,
    *,
    legend: Sequence[Artist] = (),
    side_px: int = _PANEL_PX,
) -> NDArray[np.uint8]:
    """Draws panels of one shape row by row, each on a whole number of screen pixels.

    Args:
        panels: from left to right and from top to bottom.
        columns: how many to a row.
        legend: labelled artists, explained below the panels.
        side_px: about how wide a panel is on screen.

    Returns:
        The picture, `[height, width, 3]`.
    """
    shape = panels[0].rgb.shape[:2]
    scale = screen_scale(shape, side_px)
    height, width = (max(1, round(side * scale)) for side in shape)
    title = _TITLE_PX + (_NOTE_PX if any(panel.note for panel in panels) else 0)
    room = max(width, min(_TITLE_WIDTH_PX, side_px))
    bars = [any(panel.colour_map for panel in panels[k::columns]) for k in range(columns)]
    widths = [room + _GAP_PX + (_BAR_PX if bar else 0) for bar in bars]
    rows = -(-len(panels) // columns)
    total_width = _GAP_PX + sum(widths)
    panels_height = _GAP_PX + rows * (title + height + _GAP_PX)
    total_height = panels_height + (_LEGEND_PX if legend else 0)
    figure = figure_of(total_width, total_height)

    def axes_at(left: int, top: int, width: int) -> Axes:
        box = (left, total_height - top - height, width, height)
        return figure.add_axes(tuple(np.divide(box, (total_width, total_height) * 2)))

    def write(left: int, bottom: int, text: str, pixels: float, colour: str) -> None:
        written = figure.text(
            left / total_width,
            1 - bottom / total_height,
            text,
            va='bottom',
            color=colour,
            fontsize=font_points(pixels),
        )
        # Again where needed: letters are hinted, so that their width is not that of their size.
        while (wide := written.get_window_extent(canvas.get_renderer()).width) > room:
            written.set_fontsize(0.99 * room / wide * written.get_fontsize())

    canvas = FigureCanvasAgg(figure)
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        left = _GAP_PX + sum(widths[:column])
        top = _GAP_PX + title + row * (title + height + _GAP_PX)
        axis = axes_at(left, top, width)
        axis.imshow(
            panel.rgb, interpolation='nearest' if scale >= 1 else 'antialiased', aspect='auto'
        )
        if panel.overlay is not None:
            panel.overlay(axis)
        axis.set_axis_off()
        write(left, top - title + _TITLE_PX - 8, panel.title, FONT_PX, 'black')
        write(left, top - 6, panel.note, 0.9 * FONT_PX, '0.3')
        if panel.colour_map is not None:
            scale_of = ScalarMappable(Normalize(0, 1), panel.colour_map)
            bar = figure.colorbar(
                scale_of, cax=axes_at(left + width + 6, top, 12), ticks=[0, 0.5, 1]
            )
            bar.ax.set_yticklabels(['0', '0.5', '1'])
            bar.ax.tick_params(labelsize=font_points(0.8 * FONT_PX), length=3, pad=2)
            bar.outline.set_linewidth(0.5)
    if legend:
        figure.legend(
            handles=legend,
            loc='lower center',
            ncols=len(legend),
            frameon=False,
            fontsize=font_points(0.9 * FONT_PX),
        )
    return rendered(figure)


def figure_of(
    width_px: int, height_px: int, layout: Literal['constrained'] | None = None
) -> Figure:
    """An empty figure of this size on screen."""
    # A little more: sizes are cut to whole pixels, and rounding may leave them short of one.
    size = (width_px + 0.01) / DPI, (height_px + 0.01) / DPI
    return Figure(size, dpi=DPI, facecolor='white', layout=layout)


def font_points(pixels: float) -> float:
    return pixels * 72 / DPI


def rendered(figure: Figure) -> NDArray[np.uint8]:
    """The pixels of a figure, `[height, width, 3]`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_png(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> None:
    """Writes a picture whole or not at all."""
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, format='PNG')
    write_bytes(Path(path), encoded.getvalue())
