"""Processes side by side: their shares, their lines, their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from commands import ROOT

from reproduction.jobs import Jobs, environment, shares

# Notes in a file when it starts, and when it is told to stop: as a training saves.
SAVES = """
import pathlib, time
path = pathlib.Path({path!r})
path.write_text('started')
try:
    time.sleep(120)
except KeyboardInterrupt:
    time.sleep(0.2)
    path.write_text('saved')
    raise
"""


def python(text: str) -> partial[None]:
    """A call that can be sent."""
    return partial(exec, text, {})


def saves(path: Path) -> partial[None]:
    return python(SAVES.format(path=str(path)))


def wait_for(path: Path, text: str) -> None:
    for _ in range(600):
        if path.exists() and path.read_text() == text:
            return
        time.sleep(0.05)
    raise AssertionError(f'{path} does not say {text!r}.')


def test_cores_are_divided():
    assert shares([0, 1, 2, 3], 2) == [(0, 1), (2, 3)]
    assert shares([1, 4, 6], 2) == [(1,), (4, 6)]
    assert shares([5, 7], 3) == [(5,), (7,), (5,)]


def test_the_environment_has_a_thread_to_spare_and_a_part_of_the_memory(monkeypatch):
    for name in ('NPROC', 'XLA_CLIENT_MEM_FRACTION'):
        monkeypatch.delenv(name, raising=False)
    found = environment(1, 2)
    assert found['NPROC'] == '2' and found['XLA_PYTHON_CLIENT_MEM_FRACTION'] == '0.375'
    monkeypatch.setenv('XLA_CLIENT_MEM_FRACTION', '0.9')  # JAX refuses both at once
    monkeypatch.setenv('NPROC', '8')
    found = environment(3, 3)
    assert found['XLA_CLIENT_MEM_FRACTION'] == '0.300' and found['NPROC'] == '8'
    assert 'XLA_PYTHON_CLIENT_MEM_FRACTION' not in found


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity'), reason='needs the affinity of a process')
def test_each_has_its_cores_and_its_lines_bear_its_name(capfd, tmp_path):
    mine = os.sched_getaffinity(0)
    text = 'import os; print("cores", *os.sched_getaffinity(0))'
    with Jobs(2) as jobs:
        jobs.start('one', python(text))
        assert jobs.free and jobs.running == ['one']
        jobs.start('two', python(text))
        assert not jobs.free
        ended: dict[str, str] = {}
        while jobs.running:
            ended |= jobs.wait()
    assert ended == {'one': '', 'two': ''} and os.sched_getaffinity(0) == mine
    cores = [' '.join(map(str, part)) for part in shares(sorted(mine), 2)]
    said = capfd.readouterr().err.splitlines()
    assert sorted(said) == [f'one: cores {cores[0]}', f'two: cores {cores[1]}']


@pytest.mark.slow
def test_why_one_failed_is_known_and_the_others_go_on(capfd, tmp_path):
    calls = {
        'mistake': python('raise ValueError("out of memory")'),
        'input': python('from taclnet_jax.errors import InputError; raise InputError("Expected.")'),
        'killed': python('import os; os.kill(os.getpid(), 9)'),
        'silent': python('raise SystemExit(3)'),
        'good': python('pass'),
    }
    ended: dict[str, str] = {}
    with Jobs(len(calls)) as jobs:
        for name, call in calls.items():
            jobs.start(name, call)
        while jobs.running:
            ended |= jobs.wait()
    assert ended == {
        'mistake': 'out of memory',
        'input': 'Expected.',
        'killed': 'Ended by SIGKILL.',
        'silent': 'Ended with status 3.',
        'good': '',
    }
    assert 'mistake: Traceback' in capfd.readouterr().err


def test_those_that_run_save_when_an_interrupt_comes(tmp_path):
    files = [tmp_path / name for name in ('one', 'two')]
    with pytest.raises(KeyboardInterrupt), Jobs(2) as jobs:
        for path in files:
            jobs.start(path.name, saves(path))
        for path in files:
            wait_for(path, 'started')
        raise KeyboardInterrupt
    assert [path.read_text() for path in files] == ['saved', 'saved']


def test_they_save_when_who_started_them_is_gone(tmp_path):
    path = tmp_path / 'one'
    text = f"""
from functools import partial
from pathlib import Path
from reproduction.jobs import Jobs
with Jobs(2) as jobs:
    jobs.start('one', partial(exec, {SAVES.format(path=str(path))!r}, {{}}))
    while jobs.running:
        jobs.wait()
"""
    parent = subprocess.Popen([sys.executable, '-c', text], cwd=ROOT, stderr=subprocess.PIPE)
    try:
        wait_for(path, 'started')
        parent.send_signal(signal.SIGKILL)
        wait_for(path, 'saved')
    finally:
        parent.kill()
        parent.communicate()
