"""Training in several processes, of which one is lost, or told to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from commands import Run, arguments, environment, run

from taclnet_jax.training.checkpoints import best_variables
from taclnet_jax.training.processes import SILENCE_S


def together(
    workdir: Path, devices: int, *scripts: tuple[str, ...], slurm: bool = False
) -> list[tuple[int, str]]:
    """What `commands.run` gives, of a process with so many devices for each script.

    A {} in the workdir stands for its index.
    """
    number = len(scripts)
    with socket.create_server(('localhost', 0)) as server:
        port = server.getsockname()[1]
    processes = []
    for i, script in enumerate(scripts):
        command = arguments(Path(str(workdir).format(i)), **SCORED)
        flags = [f'--coordinator=localhost:{port}', f'--num_processes={number}']
        flags.append(f'--process_index={i}')
        variables = environment(devices)
        if slurm:  # It tells where the first is, in these and the job's number.
            flags = ['--distributed']
            variables |= {'SLURM_JOB_ID': str(os.getpid()), 'SLURM_STEP_NODELIST': 'localhost'}
            variables |= {'SLURM_NTASKS': str(number), 'SLURM_STEP_NUM_NODES': '1'}
            variables |= {'SLURM_PROCID': str(i), 'SLURM_LOCALID': str(i)}
        processes.append(
            subprocess.Popen(
                [sys.executable, *script, *command, *flags],
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=3 * SILENCE_S)[0] for process in processes]
    return [(p.returncode, output) for p, output in zip(processes, outputs, strict=True)]


MAIN = ('-m', 'taclnet_jax.main')
SCORED = {'evaluate__threshold_sections': 1, 'evaluate__test_sections': 1}
SIGNALLED = str(Path(__file__).with_name('signalled.py'))


def records(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.usefixtures('plain_pictures')
def test_a_run_of_several_processes_is_that_of_one(trained: Run, tmp_path: Path) -> None:
    workdir = tmp_path / 'run'
    # Two processes with a device each, of which one dies after the checkpoint of step 3.
    (status, output), (killed, _) = together(workdir, 1, MAIN, (SIGNALLED, 'killed'))
    assert killed == -signal.SIGKILL
    assert status == 1 and 'Another process of this training ended' in output, output
    assert 'Traceback' not in output

    # Two with two devices each, as SLURM starts them. One is told to stop, and both do, together.
    ended = together(workdir, 2, MAIN, (SIGNALLED, 'stopped'), slurm=True)
    for status, output in ended:
        assert status == 128 + signal.SIGTERM, output
        assert 'Stopped at step 5 of 9, and saved.' in output
    assert ['Going on from step 3 of 9.' in output for _, output in ended] == [True, False]

    # One goes on to the end.
    status, output = run(*arguments(workdir, **SCORED))
    assert status == 0 and 'Going on from step 5 of 9.' in output, output
    for one, same in zip(records(trained.workdir), records(workdir), strict=True):
        assert one['step'] == same['step']
        np.testing.assert_allclose(same['train/loss'], one['train/loss'], rtol=1e-5)
    (step, variables), (there, same) = map(best_variables, (trained.workdir, workdir))
    assert step == there
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), variables, same)


@pytest.mark.slow
@pytest.mark.usefixtures('plain_pictures')
def test_processes_wait_for_a_slow_disk_and_fail_together(tmp_path: Path) -> None:
    workdir = tmp_path / 'run'
    for status, output in together(workdir, 1, (SIGNALLED, 'slow'), MAIN):
        assert status == 0, output
    assert {p.name for p in (workdir / 'checkpoints').glob('*/*')} == {'3', '6', '9'}
    assert json.loads((workdir / 'results.json').read_text())['hardware'].startswith('2 CPU')

    # What one refuses ends both, whichever it is.
    for odd in (0, 1):
        scripts: list[tuple[str, ...]] = [MAIN, MAIN]
        scripts[odd] = (*MAIN, '--config.seed=7')
        ended = together(workdir, 1, *scripts)
        for i, (status, output) in enumerate(ended):
            assert status == 2 and 'seed: 7 here, 0 there' in output, output
            assert (f'Process {odd} of this training ended' in output) == (i != odd)
            assert 'Traceback' not in output and 'Fatal' not in output, output

    # Where there is no run yet they are held against each other; a folder each is none of a run.
    for status, output in together(tmp_path / 'apart_{}', 1, MAIN, MAIN):
        assert status == 2 and 'one folder that all processes see' in output, output
        assert 'or none, for process 1' in output and 'Traceback' not in output, output
    for status, output in together(tmp_path / 'new', 1, MAIN, (*MAIN, '--config.seed=7')):
        assert status == 2 and 'Traceback' not in output, output
        assert 'the same settings' in output or 'another configuration' in output, output


WAITS = """
from taclnet_jax.training import processes
processes._TOLD_S, processes.PATIENCE_S = 0.1, {patience}
processes.run_together(print, 'localhost:{port}', 2, 0)
"""


def waiting(patience: float) -> subprocess.Popen[str]:
    """The first of two processes, whose second never comes."""
    with socket.create_server(('localhost', 0)) as server:
        port = server.getsockname()[1]
    script = [sys.executable, '-c', WAITS.format(patience=patience, port=port)]
    return subprocess.Popen(script, env=environment(), stderr=subprocess.PIPE, text=True)


def test_who_waits_says_so_and_does_not_wait_for_ever() -> None:
    with waiting(patience=1) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert 'Waiting for the other processes at localhost:' in errors
    assert 'Expected all processes at localhost:' in errors and 'not all came' in errors


def test_who_waits_can_be_stopped() -> None:
    with waiting(patience=100) as process:
        assert process.stderr is not None and 'Waiting' in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize('address', ['localhost', 'localhost:', ':12345', 'localhost:abc', 'a:0'])
def test_an_address_is_host_and_port(
    tmp_path: Path, refused: Callable[..., str], address: str
) -> None:
    flags = [f'--coordinator={address}', '--num_processes=2', '--process_index=1']
    assert 'to be host:port' in refused(*arguments(tmp_path / 'run'), *flags)
    assert not (tmp_path / 'run').exists()


def test_a_machine_that_nobody_knows_and_a_port_in_use_are_refused(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    command, two = arguments(tmp_path / 'run'), ['--num_processes=2', '--process_index=0']
    message = refused(*command, '--coordinator=no-such-host.invalid:12345', *two)
    assert 'name the machine of the first process; no-such-host.invalid' in message
    with socket.create_server(('', 0)) as server:
        port = server.getsockname()[1]
        assert f'{port} cannot be opened' in refused(
            *command, f'--coordinator=localhost:{port}', *two
        )


def test_processes_that_nobody_describes_are_refused(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def initialize(*args: Any, **options: Any) -> None:
        raise ValueError('coordinator_address should be defined.')  # as JAX says

    monkeypatch.setattr(jax.distributed, 'initialize', initialize)
    message = refused(*arguments(tmp_path / 'run'), '--distributed')
    assert 'Expected --coordinator' in message and 'coordinator_address should be' in message
    assert not (tmp_path / 'run').exists()
