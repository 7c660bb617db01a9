"""What windows of attention change, measured on maps whose differences are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up import image, model, write_run

from benchmarks.windows import largest_steps
from taclnet_jax.volumes import write_array


def test_steps_are_those_across_borders() -> None:
    whole = np.zeros((8, 8), np.float32)
    whole[:, 2:] = 0.5  # a step that is not at a border
    whole[3, 4:] = 0.75
    windows = whole.copy()
    windows[4:, :4] += 0.125
    # Across row 4, and across column 4.
    assert largest_steps(whole, whole, ([4], [4])) == (0.25, 0.25, 0)
    assert largest_steps(whole, windows, ([4], [4])) == (0.25, 0.25, 0.125)
    assert largest_steps(whole, windows, ([], [])) == (0, 0, 0)


@pytest.mark.slow
def test_the_command(tmp_path: Path, run_command: Callable[..., tuple[int, str]]) -> None:
    run = write_run(tmp_path / 'run', model())
    write_array(tmp_path / 'a.tif', image((3, 128, 128)))
    flags = [f'--run={run}', f'--input={tmp_path / "a.tif"}', '--sections=0,2']
    status, output = run_command(
        *flags, '--window_px=64', '--halo_px=8', module='benchmarks.windows'
    )
    assert status == 0, output
    lines = output.splitlines()
    assert lines[0] == '2 x 2 windows of 64 px with 8 px around them, of 128 x 128'
    assert [line.split('|')[1].strip() for line in lines[3:]] == ['0', '2']
    assert len({line.count('|') for line in lines[1:]}) == 1
    # One window is what it is compared with.
    status, output = run_command(*flags, '--window_px=128', module='benchmarks.windows')
    assert status == 0, output
    assert [x.strip() for x in output.splitlines()[3].split('|')[2:6]] == [
        '0.0%',
        '0.0%',
        '0.000',
        '0.000',
    ]
