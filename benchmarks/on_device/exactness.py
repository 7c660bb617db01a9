"""Stage 2: whether the device computes what it should.

Persistence pairs of both backends pixel by pixel, attention against float64, and a training step
against that of the host's CPU, which a process of its own computes in the meantime.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.attention import float64_attention, inputs
from benchmarks.on_device.cpu_step import Outcome, cases, take_step
from benchmarks.on_device.report import Report, Table
from benchmarks.on_device.timing import begin
from benchmarks.topology import likelihood
from taclnet_jax.attention import dense_attention, topological_attention
from taclnet_jax.topology import BACKENDS, persistence_pairs

BORDERS = ('membrane', 'open')


def measure(report: Report) -> None:
    """Fills the tables."""
    path = report.scratch / 'cpu_step'
    command = [sys.executable, '-m', 'benchmarks.on_device.cpu_step', str(path)]
    command += ['--quick'] if report.quick else []
    on_cpu = subprocess.Popen(command, env={**os.environ, 'JAX_PLATFORMS': 'cpu'})
    begin(report)
    sizes = (39,) if report.quick else (39, 64, 156, 200, 512, 1024)
    pairs = report.table(
        'Persistence pairs of `xla` and `gudhi`, pixel by pixel, both borders',
        ('images', 'pairs', 'that differ'),
        [f'{n}x{n}' for n in sizes],
        first='likelihoods',
        note='Six real ones of 8 bits, and each with noise below its grey levels.',
    )
    stored = report.table(
        'Persistence pairs and the stored answers', ('pairs', *BACKENDS), first='which differ'
    )
    attention = report.table(
        'Largest error of attention against float64', ('linear time', 'dense'), first='window'
    )
    steps = report.table(
        "One training step and the CPU's in float32",
        ('loss, relative', 'P, largest', 'parameters, of the update'),
        [
            f'{name}, {arithmetic}'
            for name, *_ in cases(report.quick)
            for arithmetic in _arithmetic(report.quick)
        ],
        first='difference of',
        note='"highest" is JAX_DEFAULT_MATMUL_PRECISION. Phase 2 is TACLNet, with `xla` here and '
        '`gudhi` there.',
    )
    for size in sizes:
        with report.part(f'pairs of {size}x{size}'):
            _compare_backends(pairs, size)
    with report.part('pairs and the stored answers'):
        _compare_stored(stored, report.quick)
    with report.part('attention'):
        _compare_attention(report, attention)
    if on_cpu.wait():
        raise RuntimeError('The training step failed on the CPU.')
    with path.open('rb') as file:
        outcomes = {name: Outcome(*values) for name, values in pickle.load(file).items()}
    _compare_steps(report, steps, outcomes)


def _compare_backends(table: Table, size: int) -> None:
    real = np.stack([likelihood(size, section) for section in range(6)])
    noise = np.random.default_rng(0).random(real.shape, np.float32) / 256
    images = jnp.asarray(np.concatenate([real, np.float32(0.9) * real + noise]))
    found = differing = 0
    for border in BORDERS:
        ours, theirs = (
            [np.asarray(x) for x in persistence_pairs(images, border=border, backend=name)]
            for name in ('xla', 'gudhi')
        )
        found += int(theirs[2].sum())
        unequal = (ours[0] != theirs[0]).any(-1) | (ours[1] != theirs[1]).any(-1)
        differing += int((unequal | (ours[2] != theirs[2])).sum())
    row = f'{size}x{size}'
    table.set(row, 'images', len(images))
    table.set(row, 'pairs', found)
    table.set(row, 'that differ', differing)


def _vectors(pattern: str) -> list[Path]:
    folder = os.environ.get('TACLNET_DATA_DIR')
    return sorted((Path(folder) / 'vectors').glob(pattern)) if folder else []


def _compare_stored(table: Table, quick: bool) -> None:
    for path in _vectors('persistence_*.npz'):
        data = np.load(path)
        if 'birth' not in data:
            continue  # of equal values, with several right answers
        if quick and data['prob'].size > 50**2:
            continue
        expected = [_rows(data[f'{p}birth'], data[f'{p}death']) for p in ('framed_', '')]
        row = path.stem.removeprefix('persistence_')
        table.set(row, 'pairs', sum(map(len, expected)))
        for name in BACKENDS:
            differing = 0
            for border, right in zip(BORDERS, expected, strict=True):
                pairs = persistence_pairs(data['prob'], border=border, backend=name)
                there = np.asarray(pairs.mask)
                got = _rows(np.asarray(pairs.birth)[there], np.asarray(pairs.death)[there])
                differing += len(got ^ right)
            table.set(row, name, differing)


def _rows(birth: np.ndarray, death: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, np.hstack([birth, death]).tolist()))


def _windows(quick: bool) -> Iterator[tuple[str, tuple[Any, Any, Any], np.ndarray | None]]:
    """(name, query, keys and values, o if it is stored)."""
    for path in _vectors('attention_*.npz')[: 1 if quick else None]:
        data = np.load(path)
        target, maps, prob = int(data['target']), data['critical_maps'], data['prob']
        shape = 'x'.join(map(str, maps.shape))
        yield f'{shape}, real', (maps[target], maps, prob[target]), data['attention']
    size = 32 if quick else 156
    for slices in (3,) if quick else (1, 3, 5):
        yield f'{slices}x{size}x{size}, made up', inputs(size, slices), None


def _compare_attention(report: Report, table: Table) -> None:
    functions: dict[str, Callable[..., Any]] = {
        'linear time': topological_attention,
        'dense': dense_attention,
    }
    for row, args, stored in _windows(report.quick):
        exact = float64_attention(*args) if stored is None else stored
        for column, function in functions.items():
            o = np.asarray(jax.jit(function)(*args), np.float64)
            table.set(row, column, float(np.abs(o - exact).max()))


ARITHMETIC = {
    'float32': ('float32', None),
    'float32, highest': ('float32', 'highest'),
    'bfloat16': ('bfloat16', None),
}
"""By name: the network's precision, and JAX's for products of float32."""


def _arithmetic(quick: bool) -> dict[str, tuple[str, str | None]]:
    return {'float32': ARITHMETIC['float32']} if quick else ARITHMETIC


def _compare_steps(report: Report, table: Table, expected: dict[str, Outcome]) -> None:
    for arithmetic, (precision, products) in _arithmetic(report.quick).items():
        for name, network, phase_two in cases(report.quick):
            right = expected[name]
            row = f'{name}, {arithmetic}'
            with report.part(row), jax.default_matmul_precision(products):
                got = take_step(network, phase_two, precision, 'xla', report.quick, right.before)
                _compare_step(table, row, got, right)


def _compare_step(table: Table, row: str, got: Outcome, right: Outcome) -> None:
    table.set(row, 'loss, relative', abs(got.loss - right.loss) / abs(right.loss))
    table.set(row, 'P, largest', float(np.abs(got.prob - right.prob).max()))
    update = _distance(right.before, right.after)
    table.set(row, 'parameters, of the update', _distance(got.after, right.after) / update)


def _distance(one: Any, other: Any) -> float:
    squares = jax.tree.map(lambda x, y: np.sum((x - y) ** 2), one, other)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))
