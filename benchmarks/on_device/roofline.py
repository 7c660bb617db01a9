"""Stage 1: device, driver, versions; how fast it moves bytes and multiplies matrices."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import taclnet_jax
from benchmarks.on_device.report import Report
from benchmarks.on_device.timing import begin, milliseconds
from taclnet_jax.cores import available_cores

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'gudhi', 'torch')
ENOUGH_MS = 20.0
"""Of a call that is hardly slowed by being started."""


def measure(report: Report) -> None:
    """Fills the tables."""
    begin(report)
    describe(report)
    table = report.table(
        'What bounds a computation',
        ('rate', 'unit', 'size'),
        (
            'copy on the device',
            'product, bfloat16',
            'product, float32',
            'host to device',
            'device to host',
            'an empty call',
        ),
        note='A copy reads and writes; its rate counts both. Products as JAX sets them by default.',
    )

    def copy(mib: int) -> tuple[Callable[[], Any], float]:
        x = jnp.zeros((mib, 1 << 18), jnp.float32)
        call = jax.jit(jnp.negative)
        return lambda: call(x), 2 * x.nbytes

    def product(dtype: Any) -> Callable[[int], tuple[Callable[[], Any], float]]:
        def of_size(side: int) -> tuple[Callable[[], Any], float]:
            a = jnp.ones((side, side), dtype)
            call = jax.jit(jnp.matmul)
            return lambda: call(a, a), 2 * side**3

        return of_size

    def to_device(mib: int) -> tuple[Callable[[], Any], float]:
        x = np.ones((mib, 1 << 18), np.float32)
        return lambda: jax.device_put(x), x.nbytes

    def to_host(mib: int) -> tuple[Callable[[], Any], float]:
        x = jnp.ones((mib, 1 << 18), jnp.float32)
        call = jax.jit(lambda x: x + 1)
        # A new array each time: JAX keeps what it has copied once.
        return lambda: np.asarray(call(x)), x.nbytes

    sizes = [2**n for n in (range(3, 7) if report.quick else range(5, 15))]
    # Larger and larger, until a call is long.
    for row, fact, of_size, allowed, size, unit in (
        ('copy on the device', 'copy', copy, sizes[:7], 'MiB', 'GB/s'),
        ('product, bfloat16', 'bfloat16', product(jnp.bfloat16), sizes, 'side', 'TFLOP/s'),
        ('product, float32', 'float32', product(jnp.float32), sizes, 'side', 'TFLOP/s'),
        ('host to device', 'to_device', to_device, sizes[:4], 'MiB', 'GB/s'),
        ('device to host', 'to_host', to_host, sizes[:4], 'MiB', 'GB/s'),
    ):
        with report.part(row):
            for n in allowed:
                call, amount = of_size(n)
                fastest = milliseconds(report, call)[1]
                rate = amount / (fastest / 1e3)
                table.set(row, 'rate', rate / (1e9 if unit == 'GB/s' else 1e12))
                table.set(row, 'unit', unit)
                table.set(row, 'size', f'{n} {size}' if size == 'MiB' else f'{n}x{n}')
                report.fact(fact, rate)
                if fastest > ENOUGH_MS:
                    break
    x, empty = jnp.zeros(()), jax.jit(jnp.negative)
    table.set('an empty call', 'rate', milliseconds(report, lambda: empty(x))[1])
    table.set('an empty call', 'unit', 'ms')
    table.set('an empty call', 'size', 'one number')


def describe(report: Report) -> None:
    """What there is."""
    table = report.table('The machine', ('value',), first='what')
    device = jax.devices()[0]
    table.set('devices', 'value', f'{jax.local_device_count()} x {device.device_kind}')
    memory = (device.memory_stats() or {}).get('bytes_limit')
    if memory:
        report.fact('memory_bytes', memory)
        table.set('memory JAX may take', 'value', f'{memory / 2**30:.1f} GiB')
    for name, value in nvidia().items():
        table.set(name, 'value', value)
    table.set('platform', 'value', ' '.join(device.client.platform_version.split()))
    cores = len(available_cores())
    table.set('host', 'value', f'{cores} {platform.machine()} cores, {_processor()}')
    versions = [f'taclnet_jax {taclnet_jax.__version__}', f'Python {platform.python_version()}']
    for name in PACKAGES:
        try:
            versions.append(f'{name} {metadata.version(name)}')
        except metadata.PackageNotFoundError:
            versions.append(f'no {name}')
    table.set('versions', 'value', ', '.join(versions))


def nvidia() -> dict[str, str]:
    """What NVIDIA's tool says of the first GPU; {} where there is none."""
    if shutil.which('nvidia-smi') is None:
        return {}
    fields = {
        'driver': 'driver_version',
        'memory': 'memory.total',
        'power limit': 'power.limit',
        'highest clock': 'clocks.max.sm',
    }
    query = f'--query-gpu={",".join(fields.values())}'
    done = subprocess.run(
        ['nvidia-smi', query, '--format=csv,noheader'], capture_output=True, text=True, timeout=20
    )
    first = done.stdout.splitlines()[:1] if done.returncode == 0 else []
    return dict(zip(fields, first[0].split(', '), strict=True)) if first else {}


def _processor() -> str:
    try:
        with open('/proc/cpuinfo') as lines:
            names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model n')]
        return names[0] if names else platform.processor()
    except OSError:
        return platform.processor()
