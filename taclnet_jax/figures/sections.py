"""Pictures of sections and of attention."""

import os
from collections.abc import Mapping

import numpy as np
import skimage as ski
from matplotlib.colors import hsv_to_rgb
from numpy.typing import ArrayLike, NDArray

from taclnet_jax.errors import InputError
from taclnet_jax.figures.panels import (
    Panel,
    as_bytes,
    coloured,
    grid,
    screen_scale,
    stretched,
    write_png,
)

_SKY, _RED = (0.34, 0.71, 0.91), (0.88, 0.05, 0.04)


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
        critical_map, attention, refined: CP, o and P_hat, likewise, in [0, 1].
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
    panels = [Panel('Section', coloured(image, 'gray'))]
    if 'prob' in maps:
        panels += [
            Panel('Membrane P', coloured(maps['prob'], 'gray_r'), 'gray_r'),
            Panel(r'Refined $\hat{P}$', coloured(maps['refined'], 'gray_r'), 'gray_r'),
        ]
    panels += [
        Panel('Critical points CP', coloured(points, 'inferno'), 'inferno'),
        Panel('Attention o', coloured(o, 'inferno'), 'inferno'),
        Panel(r'$\hat{P}$ (blue) and o (red) on section', _overlay(image, maps['refined'], o)),
    ]
    picture = grid(panels, columns=len(panels) // 2)
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
        prob, refined: P and P_hat in [0, 1], likewise.
        true_segments: integers, 0 = membrane, likewise.
        segments, segments_refined: those of P and P_hat, which are None without attention.
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
        Panel('Section', coloured(image, 'gray')),
        Panel('True membrane', coloured(maps['true_membrane'], 'gray_r')),
        Panel('Membrane P', coloured(maps['prob'], 'gray_r'), 'gray_r'),
    ]
    closed, of_p = (_matched(truth, maps[name]) for name in ('segments_closed', 'segments'))
    bottom = [
        Panel('Closed segments on section', _tinted(image, closed)),
        Panel('True segments', _segment_colours(truth)),
        Panel('Segments of P', _segment_colours(of_p)),
    ]
    if 'refined' in maps and 'segments_refined' in maps:
        matched = _matched(truth, maps['segments_refined'])
        # One bar, at the end of the row, serves P and P_hat.
        top[-1] = top[-1]._replace(colour_map=None)
        top.append(Panel(r'Refined $\hat{P}$', coloured(maps['refined'], 'gray_r'), 'gray_r'))
        bottom.append(Panel(r'Segments of $\hat{P}$', _segment_colours(matched)))
    picture = grid(top + bottom, columns=len(top))
    write_png(path, picture)
    return picture


_TITLES = {'membrane': 'Membrane P', 'refined': r'Refined $\hat{P}$', 'attention': 'Attention o'}


def prediction_panels(
    path: str | os.PathLike[str],
    section: ArrayLike,
    maps: Mapping[str, ArrayLike],
    segments: ArrayLike | None,
) -> NDArray[np.uint8]:
    """One section beside what was predicted of it, its segments laid over it in colours.

    Args:
        path: PNG file to write.
        section: the image, `[height, width]`, any scale.
        maps: any of membrane, refined and attention, `[height, width]` in [0, 1].
        segments: integers, 0 = membrane, or None.

    Returns:
        The picture, `[height, width, 3]` uint8.

    Raises:
        InputError: if the arrays are not all `[height, width]` of the section.
        OSError: if the file cannot be written; nothing of it is left behind.
    """
    image, arrays = _checked(section, **maps, segments=segments)
    panels = [Panel('Section', coloured(image, 'gray'))]
    for name in maps:
        colours = 'inferno' if name == 'attention' else 'gray_r'
        panels.append(Panel(_TITLES[name], coloured(arrays[name], colours), colours))
    if 'segments' in arrays:
        panels.append(Panel('Segments on section', _tinted(image, arrays['segments'])))
    picture = grid(panels, columns=len(panels))
    write_png(path, picture)
    return picture


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
    return stretched(image), arrays


def _overlay(image: NDArray, refined: NDArray, attention: NDArray) -> NDArray[np.uint8]:
    """The section under P_hat in blue under the attention in red."""
    rgb = np.repeat(image[..., None], 3, axis=-1)
    for values, colour, opacity in ((refined, _SKY, 0.5), (attention, _RED, 1.0)):
        weight = opacity * np.clip(np.nan_to_num(values), 0, 1)[..., None]
        rgb = (1 - weight) * rgb + weight * np.array(colour)
    return as_bytes(rgb)


def _tinted(image: NDArray, segments: NDArray) -> NDArray[np.uint8]:
    """The section under the colours of its segments."""
    weight = np.where(segments != 0, 0.4, 0.0)[..., None]
    return as_bytes((1 - weight) * image[..., None] + weight * _segment_colours(segments) / 255)


def _widened(values: NDArray) -> NDArray:
    """Points of 3 pixels, the width of a Gaussian of sigma 1, brought to 7 on screen."""
    radius = round((7 / screen_scale(values.shape) - 3) / 2)
    if radius <= 0:
        return values
    return ski.morphology.dilation(
        np.nan_to_num(values), ski.morphology.disk(radius, decomposition='sequence')
    )


def _segment_colours(segments: NDArray) -> NDArray[np.uint8]:
    """A colour for each number, always the same one; 0 is black.

    Hue, saturation and value advance by irrational steps, so that numbers near each other get
    colours far apart, in lightness too.
    """
    numbers, places = np.unique(segments, return_inverse=True)
    hue = numbers * 0.61803399 % 1
    saturation = 0.35 + 0.5 * (numbers * 0.75487767 % 1)
    value = 0.5 + 0.5 * (numbers * 0.56984029 % 1)
    palette = as_bytes(hsv_to_rgb(np.stack([hue, saturation, value], axis=-1)))
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
