"""Host callbacks on several CPU devices never hang, or say so before they could.

Each case is a process of its own with a time limit: a hang cannot be caught from inside. What it
writes to standard error says where, and pytest shows it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 240

CASE = """
import os, sys
devices = int(sys.argv[1])
os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={devices}'
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from taclnet_jax.topology import critical_points

assert jax.local_device_count() == devices
mesh = Mesh(np.array(jax.devices()), ('batch',))
spec = PartitionSpec('batch')

def step(x):
    # Work on the same threads that the callback's argument is copied by.
    return critical_points(0.5 * x + 0.25 * jnp.cos(x), min_persistence=0.01).sum((-2, -1))

calls = {
    'jit': jax.jit(step),
    'pmap': jax.pmap(step),
    'shard_map': jax.jit(jax.shard_map(step, mesh=mesh, in_specs=spec, out_specs=spec)),
}
# float32 images of 1 KiB, 97 KiB, 128 KiB, 1 MiB and 4 MiB for every device.
for height, width in ((16, 16), (156, 160), (128, 256), (512, 512), (1024, 1024)):
    image = np.zeros((height, width), np.float32)
    image[height // 2] = image[:, width // 2] = 1
    image[height // 2, 2] = image[2, width // 2] = 0.5
    for mode, call in calls.items():
        print(mode, height, file=sys.stderr)
        images = np.tile(image, (devices, 1, 1, 1) if mode == 'pmap' else (devices, 1, 1))
        if mode == 'jit':
            images = jax.device_put(images, NamedSharding(mesh, spec))
        for _ in range(1 if height > 1000 else 6):
            counts = call(images)
        assert (np.asarray(counts) == 3).all(), counts
print('finished')
"""

GUARD = """
import os, sys
os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={sys.argv[1]}'
if sys.argv[2] == 'one core':
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
import jax, numpy as np
from taclnet_jax.topology import check_callbacks_can_run, critical_points
image = np.zeros((4, 4), np.float32)
for call in (check_callbacks_can_run, lambda: jax.jit(critical_points)(image)):
    try:
        call()
    except RuntimeError as error:
        print(error)
critical_points(image).block_until_ready()  # without a callback
critical_points(image, backend='xla').block_until_ready()
print('finished')
"""


def run(code: str, *args: str, nproc: int | None) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ('NPROC', 'XLA_FLAGS')}
    environment |= {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
    if nproc is not None:
        environment['NPROC'] = str(nproc)
    result = subprocess.run(
        [sys.executable, '-c', code, *args],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
    )
    assert result.returncode == 0
    return result.stdout


def test_too_few_workers_are_named_with_what_to_do() -> None:
    printed = run(GUARD, '2', 'all cores', nproc=2)
    assert printed.count('NPROC=3') == 2
    assert printed.endswith('finished\n')


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='cores cannot be chosen here')
def test_one_core_is_too_few() -> None:
    assert run(GUARD, '1', 'one core', nproc=None).count('NPROC=2') == 2


@pytest.mark.slow
def test_enough_workers_pass() -> None:
    assert run(GUARD, '2', 'all cores', nproc=3) == 'finished\n'


@pytest.mark.parametrize('devices', (2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 8))))
def test_callbacks_of_any_size_return(devices: int) -> None:
    assert run(CASE, str(devices), nproc=devices + 1) == 'finished\n'
