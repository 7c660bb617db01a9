"""The notebooks of colab/ run from top to bottom, and are stored without outputs but pictures.

Their pictures are stored by running them in full, which takes minutes:

    python tests/docs/test_notebooks.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from commands import ROOT, environment

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


# Where the package comes from. Each test runs the first cell where the package is not installed.

HIDDEN = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if '__editable__' not in repr(finder)]
"""


@pytest.fixture(scope='module')
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is in the repository."""
    pytest.importorskip('setuptools', minversion='77', reason='needs setuptools 77 to build')
    unwanted = shutil.ignore_patterns('.*', '*.egg-info', '__pycache__', 'build', 'dist', 'runs')
    folder = tmp_path_factory.mktemp('repository')
    return shutil.copytree(ROOT, folder / 'taclnet_jax-main', ignore=unwanted)


def zip_of(repository: Path, path: Path, folder: str) -> Path:
    """A zip of a repository, below a folder of that name."""
    with zipfile.ZipFile(path, 'w') as file:
        for name in ('pyproject.toml', 'README.md', 'LICENSE'):
            file.write(repository / name, folder + name)
        for package in ('taclnet_jax', 'configs'):
            for source in (repository / package).rglob('*'):
                file.write(source, folder + str(source.relative_to(repository)))
    return path


def find_package(
    folder: Path, source: str, hidden: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs a first cell in a folder; pip installs into `<folder>/installed`, offline."""
    installed = folder / 'installed'
    installed.mkdir(exist_ok=True)
    pip = {'TARGET': str(installed), 'NO_INDEX': '1', 'NO_DEPS': '1', 'NO_BUILD_ISOLATION': '0'}
    env = os.environ | {f'PIP_{key}': value for key, value in pip.items()}
    return subprocess.run(
        [sys.executable, '-c', HIDDEN * hidden + source],
        cwd=folder,
        env=env | {'PYTHONPATH': str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def first_cell(monkeypatch: pytest.MonkeyPatch) -> str:
    """The cell that finds the package; the same in all notebooks, for a machine with a CPU."""
    (source,) = {read(name).cells[2].source for name in NOTEBOOKS}
    return source.replace('/dev/', '/none/')


def check_installed(done: subprocess.CompletedProcess[str], folder: Path, source: str) -> None:
    assert done.returncode == 0, done.stderr
    package = folder / 'installed' / 'taclnet_jax'
    assert (package / 'volumes' / 'tiff.py').exists()
    last = done.stdout.splitlines()[-1]
    assert last == f'taclnet_jax, installed from {source}: {package / "__init__.py"}'


def test_an_installed_package_is_taken(tmp_path: Path, first_cell: str) -> None:
    done = find_package(tmp_path, first_cell, hidden=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('taclnet_jax, installed already: ')
    assert not any((tmp_path / 'installed').iterdir())


@pytest.mark.slow
@pytest.mark.parametrize('place', ['beside', 'around'])
def test_a_folder_of_the_repository_is_installed(
    place: str, tmp_path: Path, repository: Path, first_cell: str
) -> None:
    tree = shutil.copytree(repository, tmp_path / 'mine')
    folder = tmp_path if place == 'beside' else tree / 'colab'
    check_installed(find_package(folder, first_cell), folder, str(tree))


@pytest.mark.slow
@pytest.mark.parametrize('inside', ['', 'taclnet_jax-main/'])
def test_a_zip_of_the_repository_is_installed(
    inside: str, tmp_path: Path, repository: Path, first_cell: str
) -> None:
    path = zip_of(repository, tmp_path / 'upload.zip', inside)
    with zipfile.ZipFile(path, 'a') as file:  # as a Mac makes it
        file.writestr(f'__MACOSX/{inside}taclnet_jax/._sta.py', 'shadow')
    with zipfile.ZipFile(tmp_path / 'another.zip', 'w') as file:
        file.writestr('stack.tif', 'no package')
    check_installed(find_package(tmp_path, first_cell), tmp_path, str(path))


@pytest.mark.slow
def test_a_wheel_is_installed(tmp_path: Path, repository: Path, first_cell: str) -> None:
    pip = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation']
    subprocess.run([*pip, str(repository)], cwd=tmp_path, check=True)
    (wheel,) = tmp_path.glob('*.whl')
    check_installed(find_package(tmp_path, first_cell), tmp_path, str(wheel))


@pytest.fixture
def away(tmp_path: Path, repository: Path) -> Path:
    """A zip of the repository where no notebook looks."""
    (tmp_path / 'away').mkdir()
    return zip_of(repository, tmp_path / 'away' / 'a.zip', 'taclnet_jax-main/')


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder of a notebook with nothing in it."""
    folder = tmp_path / 'here'
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_an_address_is_installed(here: Path, away: Path, first_cell: str) -> None:
    filled_in = first_cell.replace("ADDRESS = ''", f'ADDRESS = {away.as_uri()!r}')
    check_installed(find_package(here, filled_in), here, away.as_uri())


@pytest.mark.slow
def test_colab_asks_for_a_zip(here: Path, away: Path, first_cell: str) -> None:
    colab = (
        'import os, sys, types\n'
        f'files = types.SimpleNamespace(upload=lambda: os.rename({str(away)!r}, "upload.zip"))\n'
        'sys.modules["google"] = types.ModuleType("google")\n'
        'sys.modules["google.colab"] = types.SimpleNamespace(files=files)\n'
    )
    done = find_package(here, colab + first_cell)
    assert 'Choose a zip' in done.stdout
    check_installed(done, here, str(here / 'upload.zip'))


def test_what_is_missing_is_said(here: Path, first_cell: str) -> None:
    done = find_package(here, first_cell)
    assert done.returncode == 1
    assert f'zip of its repository in {here}' in done.stderr and 'ADDRESS' in done.stderr


@pytest.mark.slow
def test_taclnet_trains_evaluates_and_predicts(quick: Path) -> None:
    notebook = execute('taclnet_tpu', quick)
    for run in ('synthetic', 'isbi12'):
        results = json.loads((quick / 'runs' / run / 'results.json').read_text())
        assert results['dataset'] == run
    assert (quick / 'predictions' / 'segments.tif').exists()
    # Curves, Fig. 5 and segments of both runs, and Fig. 5 of the predicted stack.
    assert sum(len(pictures(cell)) for cell in notebook.cells) == 7


@pytest.mark.slow
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
