"""What an evaluation shows: pictures of sections, the table.

Figures are imported where they are drawn: a training's first step need not wait for matplotlib.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from taclnet_jax import metrics
from taclnet_jax.data.volume import Volume
from taclnet_jax.inference.cut import Cut, map_of
from taclnet_jax.inference.sections import SectionPrediction
from taclnet_jax.metrics.maps import MAPS, TITLES


def write_pictures(
    volume: Volume, prediction: SectionPrediction, cuts: Mapping[str, Cut], folder: Path
) -> None:
    """Writes the two pictures of a section."""
    from taclnet_jax import figures

    z = prediction.section
    membrane, ids, ignore = volume.labels(z)

    def segments(name: str) -> np.ndarray:
        return cuts[name].segments(map_of(prediction, name), ignore)

    figures.section_comparison(
        folder / f'section_{z:03d}.png',
        volume.image[z],
        membrane,
        prediction.prob,
        prediction.refined,
        metrics.true_segments(membrane, ids, ignore),
        segments('P'),
        segments('P_hat'),
        segments('P_hat_closed'),
    )
    attention_picture(volume, prediction, folder / f'attention_{z:03d}.png')


def remove_pictures(folder: Path, z: int) -> None:
    """Removes what `write_pictures` wrote of a section."""
    for what in ('section', 'attention'):
        (folder / f'{what}_{z:03d}.png').unlink(missing_ok=True)


def attention_picture(
    volume: Volume, prediction: SectionPrediction, path: Path | None
) -> np.ndarray:
    """The poster's Fig. 5 of a section, written to `path` if given."""
    from taclnet_jax import figures

    section = volume.image[prediction.section]
    return figures.attention_panels(path, section, *prediction.attended)


def format_table(results: dict[str, Any]) -> str:
    """The scores as Markdown tables, main and further ones: mean and deviation over sections."""
    sections = results['sections']
    lines = [
        f'{results["dataset"]}, fold {results["fold"]}, {len(sections)} sections from '
        f'{sections[0]} to {sections[-1]}, parameters of step {results["step"]} (mean ± standard '
        'deviation over sections)'
    ]
    for names in (metrics.MAIN, metrics.EXTENDED):
        titles = ' | '.join(metrics.COLUMNS[name] for name in names)
        lines += ['', f'| map | threshold | {titles} |', '|---|---|' + '---|' * len(names)]
        for prob in MAPS:
            mean, std = results[prob]['mean'], results[prob]['std']
            cells = ' | '.join(f'{mean[name]:.4f} ± {std[name]:.4f}' for name in names)
            lines.append(f'| {TITLES[prob]} | {results[prob]["threshold"]:.2f} | {cells} |')
    return '\n'.join(lines) + '\n'
