"""What all commands share: how errors end them, and their help."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from absl import flags
from commands import environment, run

from taclnet_jax.commandline import help_text, with_messages
from taclnet_jax.config import get_config, run_settings
from taclnet_jax.errors import InputError, Interrupted


def _hiding(interrupt: KeyboardInterrupt) -> RuntimeError:
    """As h5py raises, where it cannot close a file whose writing was interrupted."""
    error = RuntimeError("Can't decrement id ref count")
    error.__context__ = interrupt
    return error


@pytest.mark.parametrize(
    ('error', 'status', 'words'),
    [
        (InputError('Expected this.'), 2, 'taclnet: error: Expected this.'),
        (OSError(errno.ENOSPC, 'No space left on device', 'x'), 2, 'The disk is full'),
        (ValueError('write: No space left on device'), 2, 'The disk is full'),
        (MemoryError('Unable to allocate 7 TiB'), 2, 'Out of memory (Unable to allocate 7 TiB).'),
        (ValueError('RESOURCE_EXHAUSTED: No space left on device'), 2, 'The disk is full'),
        (RuntimeError('RESOURCE_EXHAUSTED: Out of memory'), 2, 'a smaller config.batch_size'),
        (FileExistsError(errno.EEXIST, 'File exists', 'mine'), 2, 'found mine: File exists'),
        (Interrupted(signal.SIGTERM, 'Stopped, and saved.'), 143, 'Stopped, and saved.'),
        (KeyboardInterrupt(), 130, 'Stopped by SIGINT.'),
        (KeyboardInterrupt(signal.SIGTERM), 143, 'Stopped by SIGTERM.'),
        (_hiding(KeyboardInterrupt(signal.SIGTERM)), 143, 'Stopped by SIGTERM.'),
    ],
)
def test_errors_become_one_line(
    error: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        with_messages(main)
    printed = capsys.readouterr()
    assert stopped.value.code == status
    assert words in printed.err and printed.err.count('\n') == 1 and not printed.out


@pytest.mark.parametrize('error', [ZeroDivisionError(), FileNotFoundError(errno.ENOENT, 'x')])
def test_mistakes_of_the_program_keep_their_traceback(error: Exception) -> None:
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        with_messages(main)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_finalizer_swallows_comes_again(number: signal.Signals) -> None:
    script = f"""
import os, signal, time
from taclnet_jax import commandline

signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.01)  # the exception is raised here

def main():
    try:
        Finalized()
        time.sleep(30)
    finally:
        print('cleaned up')

commandline.run(main, '', [])
"""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, '-c', script], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 128 + number, done.stderr
    assert done.stdout == 'cleaned up\n' and done.stderr == f'Stopped by {number.name}.\n'
    assert time.monotonic() - start < 25


def test_writes_that_end_after_one_that_failed_say_nothing() -> None:
    script = """
import asyncio, tensorstore
from taclnet_jax import commandline

def main():
    loop = asyncio.new_event_loop()
    loop.close()
    promise, future = tensorstore.Promise.new()
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(print))
    future.add_done_callback(lambda _: 1 / 0)
    promise.set_result(None)

commandline.run(main, '', [])
"""
    done = subprocess.run(
        [sys.executable, '-c', script], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr.count('Traceback') == 1, done.stderr
    assert 'Event loop' not in done.stderr and 'ZeroDivisionError' in done.stderr, done.stderr


def test_help_shows_defaults_as_they_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = flags.FlagValues()
    monkeypatch.setattr(flags, 'FLAGS', values)
    holders = [
        flags.DEFINE_list('size', ['24', '256'], 'How large.', flag_values=values),
        flags.DEFINE_integer('seed', 0, 'Which.', flag_values=values),
        flags.DEFINE_string('output', None, 'Where to.', flag_values=values),
    ]
    text = help_text('\nDoes things.\n', holders)
    assert text.startswith('Does things.\n\nFlags:\n  --size\n      How large. Default: 24,256.\n')
    assert text.endswith('  --seed\n      Which. Default: 0.\n  --output\n      Where to.')


@pytest.mark.parametrize('module', ['taclnet_jax.main', 'reproduction'])
def test_a_reader_that_has_read_enough_ends_help_quietly(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'w') as closed:
        monkeypatch.setattr(contextlib, 'redirect_stdout', lambda _: redirect_stdout(closed))
        assert run('--help', module=module) == (0, '')


ONE = 'from taclnet_jax.config import get_config as base\ndef get_config():\n    config = base()\n'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('x = 1', 'mine.py cannot be used: it has no get_config().'),
        ('def get_config(:', 'mine.py, line 1 cannot be used: invalid syntax.'),
        ('import no_such_module', 'line 1 cannot be used: ModuleNotFoundError: No module named'),
        (f'{ONE}    config.fold = "two"', 'line 4 cannot be used: TypeError: Could not override'),
        (f'{ONE}    config.fold = 1 // 0', 'line 4 cannot be used: ZeroDivisionError: '),
        (f'{ONE}    config.crop.height = 3', 'line 4 cannot be used: AttributeError: '),
        (ONE, 'mine.py cannot be used: get_config() returned None.'),
        ('def get_config():\n    open("none.txt")', "No such file or directory: 'none.txt'."),
        (None, 'mine.py cannot be used: [Errno 2] No such file or directory'),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named_with_its_line(
    text: str | None, words: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    if text is not None:
        (tmp_path / 'mine.py').write_text(text)
    message = refused(f'--config={tmp_path}/mine.py', f'--workdir={tmp_path}/run')
    assert 'Expected --config to be a Python file with get_config()' in message
    assert words in message and not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'config',
    [
        ['--config', 'synthetic', '--config.slices=2'],
        ['--config.slices=2', '--config=synthetic'],
        ['--config.slices', '2', '--config', 'synthetic'],
    ],
)
def test_a_configuration_may_be_given_in_any_place(
    config: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    message = refused(*config, f'--workdir={tmp_path}/run')
    assert 'config.slices to be one of 1, 3, 5; found 2' in message


def test_a_setting_without_a_configuration(refused: Callable[..., str]) -> None:
    assert 'Expected --config, of which --config.fold' in refused('--workdir=x', '--config.fold=1')


def test_a_home_directory_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    _, output = run('--workdir=~/nothing', '--mode=evaluate')
    assert f'{tmp_path}/nothing' in output
    config = get_config()
    config.data_dir, config.custom.image = '~/raw', '~/a.tif'
    settings = run_settings(config)
    assert settings.data.data_dir == f'{tmp_path}/raw'
    assert settings.data.custom.image == f'{tmp_path}/a.tif'


def test_what_libraries_warn_of_is_heard() -> None:
    script = """
import logging
from taclnet_jax import commandline
def main():
    logging.getLogger('tifffile').warning('cut off')
    doubt('The voxel size is not said.')
from taclnet_jax.errors import doubt
commandline.run(main, '', [])
"""
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.returncode == 0 and 'cut off' in done.stderr, done.stderr
    assert 'taclnet: warning: The voxel size is not said.\n' in done.stderr


EVERYTHING = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'
COMPILING = """
import sys
from taclnet_jax import commandline
commandline._CACHE_BYTES = int(sys.argv[1])
commandline.keep_compiled()

import jax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
for k in map(int, sys.argv[2:]):
    assert jax.jit(lambda x: k * x)(2.0) == 2 * k
print(events.count('/jax/compilation_cache/cache_hits'))
"""


def loaded(cache: Path, bound: int, *functions: int) -> int:
    """How many functions a process loads, instead of compiling them."""
    settings = {name: x for name, x in environment().items() if 'CACHE' not in name}
    done = subprocess.run(
        [sys.executable, '-c', COMPILING, str(bound), *map(str, functions)],
        env=settings | {'XDG_CACHE_HOME': str(cache), EVERYTHING: '0'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != 'linux', reason='names the cache folder as Linux does')
def test_what_one_process_compiles_the_next_one_loads(tmp_path: Path) -> None:
    def size() -> int:
        return sum(file.stat().st_size for file in (tmp_path / 'taclnet_jax').iterdir())

    assert loaded(tmp_path, 10**9, 3, 5, 7) == 0
    first = size()
    assert loaded(tmp_path, 10**9, 3, 5, 7) > 2
    assert 0 < size() <= first
    # With as much room as two functions take the least recently used go.
    assert loaded(tmp_path, 2 * first // 3, 11, 13) == 0
    assert size() <= first


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / 'taclnet_jax').touch()
    assert loaded(tmp_path, 10**9, 3) == 0
