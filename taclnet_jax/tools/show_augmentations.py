"""Shows what each augmentation does to a window of your data, on one picture.

    python -m taclnet_jax.tools.show_augmentations --config=isbi12 --output=shown.png

A training crop of the configured volume as it is, under each augmentation alone and under all of
them together, each with the strength that config.augment gives it, whether it is on or not. Of
several draws the one that changes the crop most is shown (of all together the one in the middle),
in the target section where it changes that one, else in another section of the window.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from taclnet_jax.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from taclnet_jax.config.data import DataSettings, SamplingSettings

DRAWS = 24
_LABELS, _BEFORE = '#e69f00', '#56b4e9'  # of Okabe and Ito
_MIRRORED = '#cc79a7'


class Panel(NamedTuple):
    """One augmented section; arrays `[height, width]`."""

    title: str
    image: np.ndarray  # normalised
    membrane: np.ndarray  # the labels there now
    before: np.ndarray | None  # the labels that were moved, None where none were
    valid: np.ndarray  # 0 where the section is mirrored at its border

    def outline(self, axis: Axes) -> None:
        """Draws the labels' outlines, and hatches what is mirrored."""
        for labels, colour in ((self.before, _BEFORE), (self.membrane, _LABELS)):
            if labels is not None and 0 < labels.mean() < 1:
                axis.contour(labels, [0.5], colors=colour, linewidths=1.3)
        if not self.valid.all():
            levels, hatches = [-0.5, 0.5], ['//']
            axis.contourf(self.valid, levels, colors='none', hatches=hatches, edgecolors=_MIRRORED)


def augmented_panels(
    data: DataSettings, sampling: SamplingSettings, *, seed: int = 0, sample: int | None = None
) -> list[Panel]:
    """The panels of the picture, drawn by the loader that training uses.

    Args:
        data, sampling: the volume; crop, sections in a window, and the strengths.
        seed: of the draws.
        sample: which crop of the whole volume; None takes the one in its middle.

    Raises:
        InputError: the volume or the crop cannot be had.
    """
    from taclnet_jax.data import load_volume, training_volume
    from taclnet_jax.data.augmentation import FAULTS
    from taclnet_jax.data.loader import WindowLoader
    from taclnet_jax.data.windows import grid_samples

    volume = training_volume(load_volume(data), data.downsample)
    samples = grid_samples(volume, volume.parts, sampling.crop)
    sample = len(samples) // 2 if sample is None else sample
    if not 0 <= sample < len(samples):
        raise InputError(f'Expected --sample from 0 to {len(samples) - 1}; found {sample}.')
    configured = sampling.augment
    off = replace(configured, **{f.name: f.default for f in fields(configured) if not f.default})
    target = sampling.slices // 2

    def draws(**changes: Any) -> list[dict[str, np.ndarray]]:
        loader = WindowLoader(volume, samples, sampling.slices, 1, seed, replace(off, **changes))
        generators = (np.random.default_rng([seed, i]) for i in range(DRAWS))
        return [loader.window(rng, sample, displace=True) for rng in generators]

    plain = draws()[0]

    def panel(
        title: str, moves: bool = False, rank: int = -1, share: float = 0, **changes: Any
    ) -> Panel:
        windows = draws(**changes)
        difference = np.abs([window['image'] - plain['image'] for window in windows])
        if share:  # of the pixels is to be another
            change = -np.abs((difference > 0).mean(axis=(2, 3)) - share)
        else:
            change = difference.mean(axis=(2, 3))
        in_target = change[:, target].max() > 0 or not change.any()
        section = target if in_target else int(change.max(axis=0).argmax())
        window = windows[change[:, section].argsort(kind='stable')[rank]]
        image, membrane, valid = (window[key][section] for key in ('image', 'membrane', 'valid'))
        return Panel(title, image, membrane, plain['membrane'][section] if moves else None, valid)

    grey = {name: getattr(configured, name) for name in ('gain', 'offset', 'gamma')}
    every = grey | dict.fromkeys(FAULTS, 1.0)
    panels = [
        panel('Target section'),
        panel('Flips and rotations', symmetries=True),
        panel('Contrast, brightness, gamma', **grey),
        panel(f'Dark section, strength {configured.dark_strength:g}', dark=1.0),
        panel(f'Blur, sigma {configured.blur_px:g} px', blur=1.0),
        panel(f'Noise, {configured.noise_strength:g} of contrast', noise=1.0),
        panel('Section missing in part', missing=1.0, share=0.5),
        panel('Crop moved off its grid', shift=True),
        panel(f'Elastic, up to {configured.elastic_px:g} px', elastic=1.0, moves=True),
        panel(
            'All together', rank=DRAWS // 2, symmetries=True, reverse_z=True, shift=True, **every
        ),
    ]
    if sampling.slices > 1:  # a single section is never missing as a whole, nor misaligned
        misaligned = f'Misaligned neighbour, {configured.misaligned_px} px'
        panels[6:6] = [panel('Section missing', missing=1.0, share=1.0)]
        panels[8:8] = [panel(misaligned, misaligned=1.0, moves=True)]
    return panels


def draw(path: str | os.PathLike[str], panels: Sequence[Panel]) -> None:
    """Writes the panels as one PNG, whole or not at all."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from taclnet_jax import figures

    low, high = np.percentile(panels[0].image, (0.5, 99.5)) + (-0.3, 0.3)
    drawn = [
        figures.Panel(
            panel.title,
            figures.coloured((panel.image - low) / (high - low), 'gray'),
            overlay=panel.outline,
        )
        for panel in panels
    ]
    mirrored = Patch(facecolor='none', edgecolor=_MIRRORED, hatch='//')
    mirrored.set_label('mirrored at the border: not in the loss')
    legend = [
        Line2D([], [], color=_LABELS, lw=4, label='membrane labels'),
        Line2D([], [], color=_BEFORE, lw=4, label='the labels before they moved'),
        mirrored,
    ]
    figures.write_png(path, figures.grid(drawn, 4, legend=legend, side_px=420))


def _run() -> None:
    from absl import flags

    from taclnet_jax import commandline

    config = commandline.define_config()
    output = flags.DEFINE_string('output', 'augmentations.png', 'PNG file to write.')
    sample = flags.DEFINE_integer(
        'sample', None, 'Which crop, counted over the whole volume; without it one in the middle.'
    )

    def main() -> None:
        from taclnet_jax.config import run_settings

        settings = run_settings(commandline.required(config))
        panels = augmented_panels(
            settings.data, settings.sampling, seed=settings.seed, sample=sample.value
        )
        draw(output.value, panels)
        print(f'Written: {output.value}')

    commandline.run(main, __doc__, (config, output, sample))


if __name__ == '__main__':
    _run()
