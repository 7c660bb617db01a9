"""What an evaluation found, as one HTML file: it opens from disk, and needs nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taclnet_jax import metrics, page
from taclnet_jax.inference import SEGMENTED
from taclnet_jax.metrics.maps import MAPS, TITLES
from taclnet_jax.volumes.units import shown_nm


def worst_first(sections: Sequence[int], scores: Sequence[Mapping[str, float]]) -> list[int]:
    """Sections by the VOI of their segments, the highest first."""
    voi = {z: of_section['voi'] for z, of_section in zip(sections, scores, strict=True)}
    return sorted(sections, key=lambda z: (-voi[z], z))


def run_page(results: Mapping[str, Any], pictures: Path, curves: Path) -> str:
    """A page of a run: scores, curves, sections, the worst first, settings, hardware.

    Args:
        results: what results.json holds.
        pictures: folder of those of sections, of `write_pictures`.
        curves: the picture of the training; there may be none.
    """
    scored = results[SEGMENTED]['per_section']
    order = worst_first(results['sections'], scored)
    facts = {
        'parameters of step': results['step'],
        'voxel size (z, y, x)': shown_nm(results['resolution_nm']),
        'hardware': results['hardware'],
        'version': results['version'],
    }
    parts = [page.table(['run', ''], facts.items()), page.heading('Scores')]
    parts.append(page.paragraph(f'Mean ± standard deviation over {len(order)} test sections.'))
    parts.append(_scores(results))
    if curves.exists():
        parts += [page.heading('Training'), page.picture(curves, 'By epoch.')]
    parts += [page.heading('Sections, worst first'), _sections(results['sections'], scored, order)]
    for z in order:
        for what, caption in (('section', 'truth, maps, segments'), ('attention', 'attention')):
            picture = pictures / f'{what}_{z:03d}.png'
            if picture.exists():
                parts.append(page.picture(picture, f'Section {z}: {caption}.'))
    parts += [page.heading('Settings'), page.settings(results['config'])]
    return page.page(f'{results["dataset"]}, fold {results["fold"]}', parts)


def _scores(results: Mapping[str, Any]) -> page.Html:
    """The means of all maps, a column each."""
    rows = [['threshold', *(f'{results[prob]["threshold"]:.2f}' for prob in MAPS)]]
    for name in (*metrics.MAIN, *metrics.EXTENDED):
        cells = [
            f'{results[prob]["mean"][name]:.4f} ± {results[prob]["std"][name]:.4f}' for prob in MAPS
        ]
        rows.append([metrics.COLUMNS[name], *cells])
    return page.table(['', *TITLES.values()], rows)


def _sections(
    sections: Sequence[int], scored: Sequence[Mapping[str, float]], order: Sequence[int]
) -> page.Html:
    """The main scores of each section."""
    of_section = dict(zip(sections, scored, strict=True))
    rows = [[z, *(float(of_section[z][name]) for name in metrics.MAIN)] for z in order]
    titles = [metrics.COLUMNS[name] for name in metrics.MAIN]
    return page.table([f'section ({TITLES[SEGMENTED]})', *titles], rows)
