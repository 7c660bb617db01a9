"""The rules of the house that import-linter does not know (docs/architecture.md)."""

import ast
import re
import subprocess
import sys
import tomllib
from itertools import pairwise

import pytest
from commands import ROOT, environment

PACKAGE = ROOT / 'taclnet_jax'
MODULES = sorted(PACKAGE.rglob('*.py'))
ALL_SETTINGS = ('config/', 'main.py', 'training/setup.py', 'training/beginning.py')
MODEL = ('inference/', 'evaluation/', 'prediction/', 'main.py')


def taking(name: str) -> set[str]:
    """The modules with a function of which an argument is annotated by a name."""
    found = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                hints = [ast.unparse(a.annotation) for a in arguments if a.annotation]
                if any(re.search(rf'\b{name}\b', hint) for hint in hints):
                    found.add(path.relative_to(PACKAGE).as_posix())
    return found


@pytest.mark.parametrize(('name', 'rooms'), [('RunSettings', ALL_SETTINGS), ('Model', MODEL)])
def test_who_takes_what(name: str, rooms: tuple[str, ...]) -> None:
    takers = taking(name)
    assert takers and all(module.startswith(rooms) for module in takers), takers


def test_no_module_is_long() -> None:
    long = [path.name for path in MODULES if len(path.read_text().splitlines()) > 350]
    assert not long


def test_the_map_names_every_room_and_file_it_links() -> None:
    page = (ROOT / 'docs' / 'architecture.md').read_text()
    rooms = {path.parent.name for path in MODULES if path.parent != PACKAGE}
    assert all(f'{room}/' in page for room in rooms)
    named = re.findall(r'`((?:\w+/)+\w+\.py)`', page)
    assert named and all(
        (PACKAGE / path).exists() or (ROOT / path).exists() for path in named if 'yours' not in path
    )


def test_the_map_has_the_order_of_the_layers() -> None:
    drawing = (ROOT / 'docs' / 'architecture.md').read_text().split('```')[1]
    contracts = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['importlinter']
    layers = contracts['contracts'][0]['layers'][::-1]
    places = [
        [re.search(rf'\b{name}\b', drawing).start() for name in layer.split(' | ')]
        for layer in layers
    ]
    assert all(max(below) < min(above) for below, above in pairwise(places))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('module', 'late'),
    [
        ('taclnet_jax.main', 'jax'),  # for --help and mistakes
        # For the first step, and the first block.
        (
            'taclnet_jax.evaluation.evaluate, taclnet_jax.training.loop, '
            'taclnet_jax.prediction.predict',
            'matplotlib',
        ),
        ('reproduction.tables, reproduction.results', 'jax'),  # reads what others computed
    ],
)
def test_what_is_slow_to_import_comes_late(module: str, late: str) -> None:
    command = [sys.executable, '-c', f'import sys, {module}; print(*sys.modules)']
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert late not in done.stdout.split()
