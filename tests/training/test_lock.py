"""One training a folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment

from taclnet_jax.errors import InputError
from taclnet_jax.training import lock as module
from taclnet_jax.training.lock import training_lock

HOLD = """
import sys
from pathlib import Path
from taclnet_jax.training.lock import training_lock
with training_lock(Path(sys.argv[1])):
    print('held', flush=True)
    sys.stdin.read()
"""


def test_a_second_training_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with training_lock(tmp_path):
        for _ in range(2):  # a refused one changes nothing for the next
            with pytest.raises(InputError) as found, training_lock(tmp_path):
                pass
            assert f'process {os.getpid()} on {socket.gethostname()}' in str(found.value)
    with pytest.raises(KeyError), training_lock(tmp_path):
        raise KeyError
    with training_lock(tmp_path):
        pass


@pytest.mark.parametrize('end', ['kill', 'exit'])
def test_the_lock_of_a_process_that_ended_does_not_block(end: str, tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(tmp_path)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == 'held\n'
    with (
        pytest.raises(InputError, match=f'process {holder.pid} on {socket.gethostname()}'),
        training_lock(tmp_path),
    ):
        pass
    if end == 'kill':
        holder.kill()
    holder.communicate()
    with training_lock(tmp_path):
        pass


@pytest.mark.parametrize('error', [NotImplementedError('no flock'), OSError(37, 'No locks')])
def test_without_locks_there_is_a_warning(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def acquire(self: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(module.FileLock, 'acquire', acquire)
    with training_lock(tmp_path):
        pass
    assert f'{tmp_path} has no locks' in capsys.readouterr().err
