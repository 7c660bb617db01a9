"""README and docs/: code runs, commands run or parse, links lead somewhere, messages are real."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn
from unittest import mock

import commands
import pytest
from absl import flags
from commands import ROOT, SMALL

import taclnet_jax
from taclnet_jax import commandline, metrics
from taclnet_jax.config import run_settings
from taclnet_jax.data import DATA_SETS
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.losses import ATTENTION_FORMS, LOSSES
from taclnet_jax.models import MODELS
from taclnet_jax.topology import BACKENDS
from taclnet_jax.training.optimizer import OPTIMIZERS, SCHEDULES
from taclnet_jax.volumes import write_array

# Their code takes long.
COMPILING = ['docs/attention.md', 'docs/extending.md']
PAGES = ['README.md', *sorted(f'docs/{path.name}' for path in (ROOT / 'docs').glob('*.md'))]
PACKAGE = ROOT / 'taclnet_jax'
REGISTRIES = (DATA_SETS, MODELS, LOSSES, ATTENTION_FORMS, BACKENDS, OPTIMIZERS, SCHEDULES)
MARK = re.compile(r'<!-- not run in CI: [^>]+ -->\n$')

# Makes what the pages run a matter of seconds, most of which is compilation.
TINY = SMALL | {
    'slices': 1,
    'model.hidden': (),
    'downsample': 1,
    'crops_limit': 8,
    'phase_two.epochs': 1,
    'evaluate.threshold_sections': 2,
    'evaluate.test_sections': 1,
}
# Their files are not here; that they can be trained on is for their own tests to show.
PUBLISHED = ('isbi12', 'isbi12_poster', 'isbi13', 'cremi')


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    text: str
    marked: bool


class Command(NamedTuple):
    """A command of a page."""

    block: Block
    program: str
    arguments: tuple[str, ...]


def blocks(page: str, language: str) -> list[Block]:
    text = (ROOT / page).read_text()
    found = re.finditer(rf'^```{language}\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    return [
        Block(
            page,
            text[: block.start()].count('\n') + 1,
            block[1],
            # A command on data of the reader's says so in its first line.
            bool(MARK.search(text[: block.start()])) or 'TACLNET_DATA_DIR=...' in block[1],
        )
        for block in found
    ]


# --- Python


@pytest.mark.parametrize(
    'page',
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in COMPILING else [])
        for page in PAGES
        if blocks(page, 'python')
    ],
)
def test_code_runs(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    # Flax looks up the module that a class was defined in.
    module = ModuleType('page')
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with contextlib.ExitStack() as stack:
        for registry in REGISTRIES:  # without what the page adds to them
            stack.enter_context(mock.patch.dict(registry))
        for block in blocks(page, 'python'):
            # Newlines in front, so that a traceback names the page's own line.
            exec(compile('\n' * block.line + block.text, page, 'exec'), module.__dict__)


def test_the_pages_with_code_are_those_meant() -> None:
    counts = {page: len(blocks(page, 'python')) for page in PAGES}
    least = {'README.md': 1, 'docs/attention.md': 6, 'docs/devices.md': 1}
    least |= {'docs/extending.md': 8, 'docs/models.md': 1}
    assert {page for page, count in counts.items() if count} == least.keys()
    assert all(counts[page] >= count for page, count in least.items())


MODULES = [
    '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for path in sorted(PACKAGE.rglob('*.py'))
    if '>>>' in path.read_text()
]


@pytest.mark.parametrize('name', MODULES)
def test_examples_of_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed


@pytest.mark.parametrize('module', [taclnet_jax, metrics])
def test_public_functions_have_examples(module: ModuleType) -> None:
    functions = [f for name in dir(module) if _is_function(f := getattr(module, name))]
    own = [f for f in functions if f.__module__.startswith(f'{module.__name__}.')]
    assert len(own) > 5 and not [f.__name__ for f in own if '>>>' not in f.__doc__]


def _is_function(thing: object) -> bool:
    return callable(thing) and not isinstance(thing, type)


# --- Commands


def recorded(folder: Path) -> list[Command]:
    """The commands of all blocks, as bash sees them."""
    programs = folder / 'programs'
    (folder / '.venv').mkdir()
    programs.mkdir()
    (folder / '.venv' / 'bin').symlink_to(programs)
    (programs / 'activate').touch()
    record = folder / 'record'
    for program in ('python', 'python3', 'pip', 'pytest', 'pre-commit', 'taclnet'):
        script = programs / program
        script.write_text(
            # In one piece: of a block's commands some run at a time.
            f'#!/bin/sh\nwords=$(printf \'%s\\037\' {program} "$@")\n'
            f'printf \'%s\\036\' "$words" >> {record}\n'
        )
        script.chmod(0o755)
    commands = []
    for page in PAGES:
        for block in blocks(page, 'sh'):
            record.write_text('')
            done = subprocess.run(
                ['/bin/bash', '-e', '-c', block.text],
                env={'PATH': str(programs)},
                cwd=folder,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f'{page}, line {block.line}: {done.stderr}'
            for entry in record.read_text().split('\036')[:-1]:
                program, *arguments = entry.split('\037')[:-1]
                commands.append(Command(block, program, tuple(arguments)))
    return commands


@pytest.fixture(scope='module')
def documented(tmp_path_factory: pytest.TempPathFactory) -> list[Command]:
    found = recorded(tmp_path_factory.mktemp('record'))
    assert {command.block.page for command in found} >= {'README.md', 'docs/getting_started.md'}
    return found


@pytest.mark.parametrize('path', sorted((ROOT / 'benchmarks').rglob('*.py')), ids=lambda p: p.stem)
def test_benchmarks_can_be_imported(path: Path) -> None:
    if path.stem == 'torch_networks':
        pytest.importorskip('torch')
    importlib.import_module('.'.join(path.relative_to(ROOT).with_suffix('').parts))


def test_installation_commands_name_what_there_is(documented: list[Command]) -> None:
    """pip needs the network; .ci/run installs the package, runs the tests and the hooks."""
    ci = (ROOT / '.ci' / 'run').read_text()
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    for _, program, arguments in documented:
        line = ' '.join((program, *arguments))
        if program == 'pip':
            assert arguments[0] == 'install', line
            for extras in re.findall(r'^\.\[(.*)\]$', arguments[-1]):
                assert set(extras.split(',')) <= project['optional-dependencies'].keys(), line
        elif program in ('pytest', 'pre-commit') or arguments[:2] == ('-m', 'venv'):
            assert ' '.join((program, *arguments[:1])).strip() in ci, line


@pytest.mark.slow
@pytest.mark.usefixtures('without_pictures')
def test_commands_run_or_parse(
    documented: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All commands, in the order of the pages; those that are not run have their flags checked.

    Not run are marked blocks, and what needs a published data set. The others run as they stand,
    with settings behind them that make them small, on files that stand for the reader's.
    """
    jobs: dict[tuple[str, tuple[str, ...]], tuple[Command, list[str], bool]] = {}
    unavailable: set[str] = set()
    for command in documented:
        block, program, arguments = command
        where = f'{block.page}, line {block.line}'
        module = _module(program, arguments)
        if module is None:
            known = program in ('pip', 'pytest', 'pre-commit') or arguments[:2] == ('-m', 'venv')
            assert known or block.marked, f'{where}: run it here, or mark the block.'
            assert known or _exists(arguments), where
            continue
        given = arguments if program == 'taclnet' else arguments[2:]
        values = dict(flag.lstrip('-').split('=', 1) for flag in given if '=' in flag)
        config = Path(values.get('config', '')).stem
        run = not block.marked and config not in PUBLISHED and module != 'reproduction'
        run &= values.get('workdir') not in unavailable
        if not run and 'workdir' in values:
            unavailable.add(values['workdir'])
        key = module, given
        if key in jobs and (jobs[key][2] or not run):
            continue
        jobs[key] = command, _small(module, given, values) if run else list(given), run
    assert sum(run for *_, run in jobs.values()) >= 5

    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    volume = synthetic_volume(shape=TINY['synthetic.shape'])
    for name, array in (
        ('raw.tif', volume.image),
        ('stack.tif', volume.image),
        ('labels.tif', volume.ids),
    ):
        write_array(tmp_path / name, array)
    monkeypatch.chdir(tmp_path)
    for (module, _), (command, given, run) in jobs.items():
        with contextlib.nullcontext() if run else mock.patch.object(commandline, 'run', _check):
            status, output = commands.run(*given, module=module)
        where = f'{command.block.page}, line {command.block.line}: {" ".join(given)}'
        assert status == 0, f'{where}\n{output}'


def _check(
    main: object, description: str | None, shown: Sequence[flags.FlagHolder[Any]]
) -> NoReturn:
    """In place of `commandline.run`: everything up to the command itself."""
    commandline._parse(sys.argv, shown)
    for holder in shown:
        if holder.name == 'config' and holder.value is not None:
            commandline.with_messages(lambda value=holder.value: run_settings(value))
    sys.exit(0)


def _module(program: str, arguments: tuple[str, ...]) -> str | None:
    """The module with flags that a command runs."""
    if program == 'taclnet':
        return 'taclnet_jax.main'
    if not program.startswith('python') or arguments[0] != '-m':
        return None
    name = arguments[1]
    return name if name == 'reproduction' or name.startswith('taclnet_jax.') else None


def _exists(arguments: tuple[str, ...]) -> bool:
    option, *rest = arguments
    if option == '-c':
        return bool(ast.parse(rest[0]).body)
    if option == '-m':
        module = ROOT / rest[0].replace('.', '/')
        return any(path.exists() for path in (module.with_suffix('.py'), module / '__main__.py'))
    return (ROOT / option).exists()


def _small(module: str, given: tuple[str, ...], values: dict[str, str]) -> list[str]:
    """The flags, with others behind them that make the command small."""
    if module == 'taclnet_jax.tools.synthesize':
        return [*given, '--shape=12,48,48']
    if 'config' not in values:
        return list(given)
    return [*given, *(f'--config.{key}={value}' for key, value in TINY.items())]


# --- Pages


@pytest.mark.parametrize('page', [*PAGES, 'CHANGELOG.md'])
def test_links_and_pictures_exist(page: str) -> None:
    text = re.sub(r'^```.*?^```', '', (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r'\]\(([^)\s]+)\)', text.replace('\n', ' ')):
        if link.startswith('https://'):
            continue
        file, _, fragment = link.partition('#')
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), link
        if fragment:
            assert fragment in _anchors(target.read_text()), link


def _anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    titles = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


def test_every_page_is_linked_from_another() -> None:
    texts = {page: (ROOT / page).read_text() for page in PAGES}
    for page in PAGES[1:]:
        name = Path(page).name
        assert any(name in text for other, text in texts.items() if other != page), page


@pytest.mark.parametrize('page', ['docs/troubleshooting.md', 'docs/your_own_volume.md'])
def test_messages_are_those_of_the_program(page: str) -> None:
    """The first column of tables of messages; … stands for any value."""
    messages = _messages()
    section = (ROOT / page).read_text()
    if page == 'docs/your_own_volume.md':
        section = section[section.index('What the messages mean') :]
    quoted = re.findall(r'^\| `([^`]+)` \|', section, re.MULTILINE)
    assert len(quoted) > 10
    for message in quoted:
        assert any(message.strip('… ') in known for known in messages), message


def _messages() -> set[str]:
    """All strings of the package, … in place of what is filled in."""
    found = set()
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [x.value if isinstance(x, ast.Constant) else '…' for x in node.values]
                found.add(''.join(map(str, parts)))
    return found


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / 'docs' / f'{name}.py')
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_configuration_page_is_up_to_date() -> None:
    there = (ROOT / 'docs' / 'configuration.md').read_text()
    made = _script('make_configuration').make_page()
    assert there == made, 'Run python docs/make_configuration.py.'


def test_tables_of_results_are_up_to_date() -> None:
    script = _script('make_results')
    for page in script.PAGES:
        there = page.read_text()
        assert script.MARK.search(there), page
        assert there == script.with_tables(there), 'Run python -m docs.make_results.'


def test_versions_agree() -> None:
    assert f'\nversion: {taclnet_jax.__version__}\n' in (ROOT / 'CITATION.cff').read_text()
    assert f'## [{taclnet_jax.__version__}]' in (ROOT / 'CHANGELOG.md').read_text()
