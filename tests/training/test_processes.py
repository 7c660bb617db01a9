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
    """What `commands.run` gives, of a process with so many devices for each script."""
    number = len(scripts)
    with socket.create_server(('localhost', 0)) as server:
        port = server.getsockname()[1]
    processes = []
    for i, script in enumerate(scripts):
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
                [sys.executable, *script, *arguments(workdir, **SCORED), *flags],
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


def test_processes_that_nobody_describes_are_refused(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def initialize(*args: Any, **options: Any) -> None:
        raise ValueError('coordinator_address should be defined.')  # as JAX says

    monkeypatch.setattr(jax.distributed, 'initialize', initialize)
    message = refused(*arguments(tmp_path / 'run'), '--distributed')
    assert 'Expected --coordinator' in message and 'coordinator_address should be' in message
    assert not (tmp_path / 'run').exists()
