"""Work that one process does at a time."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment

from taclnet_jax.errors import InputError
from taclnet_jax.lock import locked

HOLD = """
import sys
from pathlib import Path
from taclnet_jax.lock import locked
with locked(Path(sys.argv[1]), ''):
    print('held', flush=True)
    sys.stdin.read()
"""
BUSY = '{holder} is here'


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'lock'
    with locked(path, BUSY):
        for _ in range(2):  # a refused one changes nothing for the next
            with pytest.raises(InputError) as found, locked(path, BUSY):
                pass
            assert str(found.value) == f'process {os.getpid()} on {socket.gethostname()} is here'
        with locked(tmp_path / 'new' / 'other', BUSY):
            pass
    with pytest.raises(KeyError), locked(path, BUSY):
        raise KeyError
    with locked(path, BUSY):
        pass
    assert not any((tmp_path / 'new').iterdir())


@pytest.mark.parametrize('end', ['kill', 'exit'])
def test_the_lock_of_a_process_that_ended_does_not_block(end: str, tmp_path: Path) -> None:
    path = tmp_path / 'lock'
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(path)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == 'held\n'
    who = f'process {holder.pid} on {socket.gethostname()}'
    with pytest.raises(InputError, match=who), locked(path, BUSY):
        pass
    if end == 'kill':
        holder.kill()
    holder.communicate()
    assert path.exists() == (end == 'kill')
    with locked(path, BUSY):
        assert path.read_text() == f'process {os.getpid()} on {socket.gethostname()}\n'


def test_without_locks_there_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*args: object) -> None:
        raise OSError(37, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', flock)
    with locked(tmp_path / 'lock', BUSY):
        pass
    assert f'{tmp_path} has no locks (No locks available)' in capsys.readouterr().err
