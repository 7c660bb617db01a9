"""The notebooks of colab/ run from top to bottom, and are stored without outputs but pictures.

Their pictures are stored by running them in full, which takes minutes:

    python tests/test_notebooks.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest
from commands import environment

from taclnet_jax.tools.synthesize import synthesize

pytest.importorskip('ipykernel', reason='notebooks run in its kernel')
nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')

COLAB = Path(__file__).parents[2] / 'colab'
NOTEBOOKS = ('taclnet_tpu', 'sta_attention')
# Of a cell whose pictures are stored.
KEEP = 'keep_output'
PICTURE_BYTES = 300_000
CELL_SECONDS = 1200


def read(name: str):
    return nbformat.read(COLAB / f'{name}.ipynb', as_version=4)


def pictures(cell) -> list[str]:
    """The base64 pictures that a cell shows."""
    data = [output.get('data', {}) for output in cell.get('outputs', [])]
    return [value for shown in data for kind, value in shown.items() if kind.startswith('image/')]


def execute(name: str, folder: Path):
    """Runs a notebook in a folder, with this interpreter; the notebook with its outputs."""
    notebook = read(name)
    resources = {'metadata': {'path': str(folder)}}
    nbclient.NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name='python3', resources=resources
    ).execute()
    return notebook


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a quick run, and its environment."""
    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv('TACLNET_NOTEBOOK_QUICK', '1')
    # Most of a quick run is compilation.
    monkeypatch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
    # Made-up tissue in ISBI12's place: CI downloads nothing.
    synthesize('isbi12', tmp_path / 'data', shape=(12, 96, 96))
    monkeypatch.setenv('TACLNET_DATA_DIR', str(tmp_path / 'data'))
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'prepared'))
    # Else the kernel of this name that a user has installed for another interpreter comes first.
    monkeypatch.setenv('JUPYTER_PREFER_ENV_PATH', '1')
    return tmp_path


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_stored_without_outputs_but_pictures(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type != 'code':
            continue
        assert cell.execution_count is None, cell.source
        stored = pictures(cell)
        assert len(cell.outputs) == len(stored), cell.source
        assert not stored or KEEP in cell.metadata.get('tags', []), cell.source
        assert all(len(picture) < PICTURE_BYTES for picture in stored)


def test_taclnet_trains_evaluates_and_predicts(quick: Path) -> None:
    notebook = execute('taclnet_tpu', quick)
    for run in ('synthetic', 'isbi12'):
        results = json.loads((quick / 'runs' / run / 'results.json').read_text())
        assert results['dataset'] == run
    assert (quick / 'predictions' / 'segments.tif').exists()
    # Curves, Fig. 5 and segments of both runs, and Fig. 5 of the predicted stack.
    assert sum(len(pictures(cell)) for cell in notebook.cells) == 7


def test_attention_behind_other_models(quick: Path) -> None:
    notebook = execute('sta_attention', quick)
    assert sum(len(pictures(cell)) for cell in notebook.cells) == 2
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    texts = [output.get('data', {}).get('text/markdown') for output in outputs]
    *_, table = filter(None, texts)
    assert len(table.splitlines()) == 2 + 6  # a head, and six maps


def store_pictures(name: str) -> None:
    """Runs a notebook in full, and stores the pictures of its cells that keep them."""
    with tempfile.TemporaryDirectory() as folder:
        done = execute(name, Path(folder))
    notebook = read(name)
    for cell, ran in zip(notebook.cells, done.cells, strict=True):
        if KEEP in cell.metadata.get('tags', []):
            cell.outputs = [output for output in ran.outputs if pictures({'outputs': [output]})]
    nbformat.write(notebook, COLAB / f'{name}.ipynb')


if __name__ == '__main__':
    for notebook_name in sys.argv[1:] or NOTEBOOKS:
        store_pictures(notebook_name)
