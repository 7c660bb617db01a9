"""The picture of all augmentations: what is on it, and the command that makes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import small_settings
from matplotlib.image import imread

from taclnet_jax.errors import InputError
from taclnet_jax.tools.show_augmentations import Panel, augmented_panels, draw


def shown(sample: int | None = None, **changes: object) -> list[Panel]:
    """The panels of the small run."""
    settings = small_settings(**changes)
    return augmented_panels(settings.data, settings.sampling, seed=settings.seed, sample=sample)


@pytest.mark.parametrize('slices', [1, 3])
def test_each_panel_shows_a_change_and_the_labels(slices: int, tmp_path: Path):
    panels = shown(slices=slices, crop=(24, 30))
    assert len({panel.title for panel in panels}) == len(panels) == (12 if slices > 1 else 10)
    plain, *others = panels
    for panel in panels:
        assert panel.image.shape == panel.membrane.shape == panel.valid.shape == (24, 30)
    for panel in others:
        assert (panel.image != plain.image).mean() > 0.2, panel.title
        if panel.before is not None:
            assert (panel.membrane != panel.before).any()
    moved = [panel.title.split(',')[0] for panel in others if panel.before is not None]
    assert moved == ['Misaligned neighbour', 'Elastic'][slices == 1 :]
    draw(tmp_path / 'picture.png', panels)
    picture = imread(tmp_path / 'picture.png')
    # More than grey: the outlines.
    assert (np.ptp(picture[..., :3], axis=-1) > 0.3).mean() > 0.002


def test_the_panels_are_the_same_each_time_and_follow_the_sample():
    first, again = (shown(sample=2) for _ in range(2))
    other = shown(sample=3)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    assert (first[0].image != other[0].image).any()


@pytest.mark.parametrize('sample', [-1, 48])
def test_samples_that_are_not_there_are_refused(sample: int):
    with pytest.raises(InputError, match=f'--sample from 0 to 47; found {sample}'):
        shown(sample=sample)


def test_the_command_writes_the_picture(
    tmp_path: Path, run_command: Callable[..., tuple[int, str]]
):
    output = tmp_path / 'picture.png'
    status, said = run_command(
        *('--config=synthetic', '--config.synthetic.shape=(3, 40, 40)', '--config.crop=(20, 20)'),
        f'--output={output}',
        module='taclnet_jax.tools.show_augmentations',
    )
    assert status == 0 and f'Written: {output}' in said, said
    assert output.stat().st_size > 1000
