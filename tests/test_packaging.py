"""The wheel and the sdist hold what they should, and work outside of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from commands import ROOT, environment

import taclnet_jax

# Builds need what pyproject.toml asks for, and may not fetch it.
pytestmark = pytest.mark.slow
pytest.importorskip('setuptools', minversion='77', reason='needs setuptools 77 to build offline')

BUILD = """
import sys
from setuptools import build_meta
getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])
"""
MODULES = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'taclnet_jax').rglob('*')
    if path.suffix in ('.py', '.pyi') or path.name == 'py.typed'
}
PRETRAINED = {
    path.relative_to(ROOT).as_posix() for path in (ROOT / 'taclnet_jax/pretrained').glob('*/*')
}
CONFIGS = {path.name for path in (ROOT / 'configs').glob('*.py')}


def build(kind: str, tree: Path, output: Path) -> Path:
    """Builds as pip does, in a process of its own."""
    output.mkdir()
    done = subprocess.run(
        [sys.executable, '-c', BUILD, kind, str(output)], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (built,) = output.iterdir()
    return built


@pytest.fixture(scope='module')
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of what is in the repository, and none of what was built there."""
    folder = tmp_path_factory.mktemp('build')
    unwanted = shutil.ignore_patterns('.*', '*.egg-info', '__pycache__', 'build', 'dist', 'runs')
    tree = shutil.copytree(ROOT, folder / 'tree', ignore=unwanted)
    return build('sdist', tree, folder / 'sdist')


@pytest.fixture(scope='module')
def wheel(sdist: Path) -> Path:
    """Built from the sdist, as an installation from it is."""
    folder = sdist.parents[1]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / 'unpacked', filter='data')
    (tree,) = (folder / 'unpacked').iterdir()
    return build('wheel', tree, folder / 'wheel')


@pytest.fixture(scope='module')
def installed(wheel: Path) -> Path:
    """The folder that the wheel is installed in, alone."""
    target = wheel.parents[1] / 'installed'
    pip = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index']
    done = subprocess.run([*pip, '--target', str(target), str(wheel)], capture_output=True)
    assert done.returncode == 0, done.stderr
    return target


def python(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the installed package where there is no repository."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment() | {'PYTHONPATH': str(installed)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_sdist_is_enough_to_build_from(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert names >= {*MODULES, *(f'configs/{name}' for name in CONFIGS), 'README.md', 'LICENSE'}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (n for n in names if n.endswith('.dist-info/METADATA'))
        text = archive.read(metadata).decode()
    configs = {f'taclnet_jax/configs/{name}' for name in CONFIGS}
    assert {name for name in names if '.dist-info/' not in name} == MODULES | configs | PRETRAINED
    assert 'taclnet_jax/py.typed' in names
    assert any(name.endswith('.dist-info/licenses/LICENSE') for name in names)
    assert f'\nVersion: {taclnet_jax.__version__}\n' in text
    assert '\nRequires-Python: >=3.11\n' in text


def test_help_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = python(installed, tmp_path, '-m', 'taclnet_jax.main', '--help')
    assert done.returncode == 0, done.stderr
    assert '--workdir' in done.stdout
    assert os.access(installed / 'bin' / 'taclnet', os.X_OK)


def test_example_of_the_readme_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    example = re.search(r'^```python\n(.*?)^```', (ROOT / 'README.md').read_text(), re.M | re.S)
    assert example is not None
    code = example[1] + '\nimport taclnet_jax\nprint(taclnet_jax.__file__)\n'
    done = python(installed, tmp_path, '-c', code)
    assert done.returncode == 0, done.stderr
    loss, file = done.stdout.split()
    assert float(loss) > 0
    assert Path(file).is_relative_to(installed)


def test_configurations_are_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    arguments = ('--config=isbi12', '--config.crop=64', '--workdir=run')
    done = python(installed, tmp_path, '-m', 'taclnet_jax.main', *arguments)
    assert done.returncode == 2, done.stderr
    assert 'config.crop' in done.stderr and 'Traceback' not in done.stderr
