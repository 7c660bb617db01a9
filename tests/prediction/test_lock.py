"""Equal commands at once: one works, the other is told who does."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import environment
from made_up import RESOLUTION_NM, image, tiny, write_run

from taclnet_jax.volumes import open_array, write_array


@pytest.mark.slow
def test_of_two_equal_commands_the_second_is_refused(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    write_run(tmp_path / 'run', tiny(slices=1))
    write_array(tmp_path / 'a.zarr', image((2, 64, 64)), resolution_nm=RESOLUTION_NM)
    command = [
        *(sys.executable, '-m', 'taclnet_jax.main', '--mode=predict', '--overwrite'),
        *(f'--workdir={tmp_path / "run"}', f'--input={tmp_path / "a.zarr"}'),
        f'--output={tmp_path / "out"}',
    ]
    lock = tmp_path / '.out.unfinished.lock'

    def start() -> subprocess.Popen[str]:
        with (tmp_path / 'log').open('w') as log:
            started = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
        end = time.monotonic() + 120
        while f'process {started.pid} on' not in (lock.read_text() if lock.exists() else ''):
            assert time.monotonic() < end and started.poll() is None
            time.sleep(0.01)
        return started

    first = start()
    first.send_signal(signal.SIGSTOP)  # until the other one has seen it
    try:
        message = refused(*command[3:])
    finally:
        first.send_signal(signal.SIGCONT)
    assert message.startswith('taclnet: error: Expected')
    assert f'process {first.pid} on {socket.gethostname()}' in message
    # One that was killed leaves its file, and blocks nobody.
    first.kill()
    first.wait()
    assert lock.exists()
    assert start().wait(240) == 0, (tmp_path / 'log').read_text()
    assert open_array(tmp_path / 'out' / 'segments.tif').shape == (2, 64, 64)
    # What was killed while it made a folder leaves that under another name.
    names = sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith('.partial'))
    assert names == ['a.zarr', 'log', 'out', 'run']
