"""The published data sets with their configurations, through the command line, in a short run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from commands import run

from taclnet_jax.data import isbi13
from taclnet_jax.tools.synthesize import synthesize
from taclnet_jax.volumes import write_array

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('plain_pictures')]

SHORT = (
    '--config.model.hidden=()',
    '--config.model.features=(4,)',
    '--config.model.iterations=1',
    '--config.crops_limit=8',
    '--config.batch_size=4',
    '--config.phase_one.epochs=1',
    '--config.phase_two.epochs=0',
    '--config.evaluate.every_epochs=1',
    '--config.evaluate.threshold_sections=1',
    '--config.evaluate.test_sections=1',
    '--config.evaluate.betti_patches=5',
)


def train(folder: Path, dataset: str, data_dir: Path, *settings: str) -> dict:
    """Trains and evaluates; what results.json holds."""
    status, output = run(
        f'--config={dataset}',
        f'--workdir={folder / "run"}',
        f'--config.data_dir={data_dir}',
        f'--config.prepared_dir={folder / "prepared"}',
        *SHORT,
        *settings,
    )
    assert status == 0, output
    results = json.loads((folder / 'run' / 'results.json').read_text())
    # Few enough for all to be among the worst.
    assert len(list((folder / 'run' / 'pictures').glob('*.png'))) == 2 * len(results['sections'])
    for name in ('P', 'P_hat'):
        assert len(results[name]['per_section']) == len(results['sections'])
        for scores in results[name]['per_section']:
            assert all(np.isfinite(value) for value in scores.values())
            assert 0 <= scores['dice'] < 1 and scores['voi'] > 0
    return results


def test_the_real_isbi12_trains_and_is_scored(data_dir: Path, tmp_path: Path):
    results = train(tmp_path, 'isbi12', data_dir, '--config.evaluate.views=1')
    assert results['sections'] == [25]


def test_real_sections_of_isbi13_train_and_are_scored(data_dir: Path, tmp_path: Path):
    # All of the volume, in eight ways and with the best of many thresholds would take minutes.
    for name in (isbi13.IMAGE, isbi13.LABELS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        part = tifffile.imread(data_dir / name, key=range(20))[:, :512, :512]
        write_array(tmp_path / name, part)
    quick = ('--config.evaluate.views=1', '--config.evaluate.threshold_from=fixed')
    results = train(tmp_path, 'isbi13', tmp_path, *quick)
    assert results['sections'] == [16]


def test_files_of_cremis_layout_train_and_are_scored(tmp_path: Path):
    # Sample A of the published kind, B padded: the labels begin inside the image.
    for samples, padding in (('A', (0, 0, 0)), ('B', (1, 20, 12))):
        made = synthesize(
            'cremi', tmp_path / samples, shape=(15, 96, 96), samples=samples, padding=padding
        )
        (tmp_path / 'cremi').mkdir(exist_ok=True)
        for path in made.paths:
            path.rename(tmp_path / 'cremi' / path.name)
    settings = (
        '--config.cremi.samples=("A", "B")',
        '--config.crop=(24, 24)',
        '--config.evaluate.test_sections=2',
    )
    results = train(tmp_path, 'cremi', tmp_path, *settings)
    assert tuple(results['sections']) == (12, 27)  # one of each sample's last third
