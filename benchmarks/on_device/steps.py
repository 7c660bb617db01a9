"""Stage 3: one training step of each kind, what topology is of it, and how far from the roofline.

Steps that answer most are compiled and timed first: three sections and the poster's batch, then the
large batch, then PyTorch's, then one section and five. The networks are untrained; persistence is
timed by itself on real likelihoods.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from benchmarks.on_device import network_settings, networks, precisions
from benchmarks.on_device.report import Report, Table
from benchmarks.on_device.timing import begin, cost, in_threads, milliseconds
from benchmarks.step import jax_step, training_of
from benchmarks.topology import likelihood
from taclnet_jax.config.settings import AttentionSettings
from taclnet_jax.data.synthetic import synthetic_volume
from taclnet_jax.data.volume import Volume
from taclnet_jax.topology import BACKENDS
from taclnet_jax.training import parallel
from taclnet_jax.training.setup import Training
from taclnet_jax.training.step import Step, time_topology

KINDS = {
    'plain': ('none', 'gudhi'),
    '+ STA, `gudhi`': ('sta', 'gudhi'),
    'TACLNet, `gudhi`': ('ita', 'gudhi'),
    'TACLNet, `xla`': ('ita', 'xla'),
}
"""By name: the attention's kind and backend."""

TORCH = 'plain, PyTorch compiled'


class Shape(NamedTuple):
    """Of a batch."""

    windows: int
    slices: int
    crop: int


class Case(NamedTuple):
    """A step that is timed."""

    shape: Shape
    network: str
    kind: str
    precision: str

    @property
    def row(self) -> str:
        """Of the table of times."""
        return f'{self.network}, {self.kind}'

    @property
    def column(self) -> str:
        """Of the table of times."""
        return f'l = {self.shape.slices}, {self.precision}'


class Compiled(NamedTuple):
    """A step that is ready to be timed.

    Attributes:
        training: whose it is.
        step: compiled.
        flops: of the network, as it is written; None where XLA does not say.
        moved: bytes that the compiled step reads and writes.
    """

    training: Training
    step: Step
    flops: float | None
    moved: float | None


def measure(report: Report) -> None:
    """Fills the tables."""
    begin(report)
    batches, crop = ((2,), 24) if report.quick else ((10, 64), 156)
    # One crop a section, of which two thirds are trained on.
    volume = synthetic_volume(shape=(max(3 * max(batches) // 2 + 1, 15), crop, crop))
    times, bounds, topology = _tables(report, batches, crop)
    for group in ((3,),) if report.quick else ((3,), (1, 5)):
        shapes = [Shape(batch, slices, crop) for slices in group for batch in batches]
        for shape in shapes:
            for network in networks(report.quick):
                _time_group(report, times[shape.windows], bounds, shape, network, volume)
            _time_topology(report, topology, shape)
        for shape in shapes:
            for network in networks(report.quick):
                _time_torch(report, times[shape.windows], shape, network, volume)


def _kinds(quick: bool) -> list[str]:
    return [*KINDS][::3] if quick else [*KINDS]


def _tables(
    report: Report, batches: tuple[int, ...], crop: int
) -> tuple[dict[int, Table], Table, Table]:
    all_slices = (3,) if report.quick else (1, 3, 5)
    columns = [
        f'l = {n}, {precision}' for n in all_slices for precision in precisions(report.quick)
    ]
    kinds = (*_kinds(report.quick), TORCH)
    rows = [f'{network}, {kind}' for network in networks(report.quick) for kind in kinds]
    times = {
        batch: report.table(
            f'One training step of {batch} windows of {crop}x{crop}, median (fastest) ms',
            columns,
            rows,
            first='step',
        )
        for batch in batches
    }
    topology = report.table(
        f'Topology of a step on real likelihoods of {crop}x{crop}, ms',
        ('persistence and CP', 'attention and its gradient'),
        [_topology_row(b, n, backend) for n in all_slices for b in batches for backend in BACKENDS],
        first='batch',
        note='Of a step it is what the two take together, of the times above.',
    )
    bounds = report.table(
        'Plain steps against the roofline of stage 1',
        ('GFLOP', 'GB', 'roofline ms', 'bound by', 'fastest ms', 'of the roofline, %'),
        first='step',
        note='Arithmetic as the network is written, bytes as XLA counts them for the compiled '
        'step; the roofline is the longer of the two at the rates of stage 1.',
    )
    return times, bounds, topology


def _time_group(
    report: Report, times: Table, bounds: Table, shape: Shape, network: str, volume: Volume
) -> None:
    cases = [
        Case(shape, network, kind, p)
        for p in precisions(report.quick)
        for kind in _kinds(report.quick)
    ]
    compiled = in_threads([partial(_compile, case, volume, report.quick) for case in cases])
    for case, future in zip(cases, compiled, strict=True):
        with report.part(f'{shape.windows} windows, {case.column}, {case.row}'):
            ready = future.result()
            found = milliseconds(report, jax_step(ready.training, ready.step))
            times.set(case.row, case.column, found)
            if case.kind == 'plain':
                _bound(report, bounds, case, ready, found[1])


def _compile(case: Case, volume: Volume, quick: bool) -> Compiled:
    kind, backend = KINDS[case.kind]
    training = training_of(
        kind,
        case.shape.slices,
        case.shape.windows,
        case.shape.crop,
        volume,
        precision=case.precision,
        attention__backend=backend,
        **network_settings(case.network, quick),
    )
    state, batch = training.new.to_devices(), parallel.shard(training.loader.batch(0, 0))
    lowered = training.create_step(phase_two=True).lower(state, batch)
    step = lowered.compile()
    flops, moved = (
        cost(of.cost_analysis(), name)
        for of, name in ((lowered, 'flops'), (step, 'bytes accessed'))
    )
    return Compiled(training, step, flops, moved)


def _bound(report: Report, table: Table, case: Case, ready: Compiled, fastest: float) -> None:
    row = f'{case.network}, {case.shape.windows} windows, {case.column}'
    table.set(row, 'fastest ms', fastest)
    rates = report.known(case.precision), report.known('copy')
    needed: dict[str, float] = {}
    for amount, rate, column, name in zip(
        (ready.flops, ready.moved), rates, ('GFLOP', 'GB'), ('arithmetic', 'bytes'), strict=True
    ):
        if amount is not None:
            table.set(row, column, amount / 1e9)
            if rate is not None:
                needed[name] = 1e3 * amount / rate
    if len(needed) == 2:
        bound = max(needed, key=lambda name: needed[name])
        table.set(row, 'roofline ms', needed[bound])
        table.set(row, 'bound by', bound)
        table.set(row, 'of the roofline, %', 100 * needed[bound] / fastest)


def _topology_row(windows: int, slices: int, backend: str) -> str:
    return f'{windows} windows, l = {slices}, `{backend}`'


def _time_topology(report: Report, table: Table, shape: Shape) -> None:
    windows, slices, crop = shape
    maps = np.stack([likelihood(crop, section) for section in range(6)])
    maps = np.resize(maps, (1, windows, slices, crop, crop))
    for backend in BACKENDS:
        row = _topology_row(windows, slices, backend)
        with report.part(f'topology, {row}'):
            found = time_topology(jnp.asarray(maps), AttentionSettings(backend=backend))
            table.set(row, 'persistence and CP', found['time/persistence_ms'])
            table.set(row, 'attention and its gradient', found['time/attention_ms'])


def _time_torch(report: Report, table: Table, shape: Shape, network: str, volume: Volume) -> None:
    for precision, make in _torch_steps(report, shape, network, volume):
        case = Case(shape, network, TORCH, precision)
        with report.part(f'{shape.windows} windows, {case.column}, {case.row}'):
            table.set(case.row, case.column, milliseconds(report, make()))


def _torch_steps(
    report: Report, shape: Shape, network: str, volume: Volume
) -> Iterator[tuple[str, Callable[[], Callable[[], None]]]]:
    if importlib.util.find_spec('torch') is None:
        return
    import torch

    from benchmarks.torch_networks import NETWORKS as THEIRS
    from benchmarks.torch_networks import torch_step

    if network not in THEIRS:
        return
    training = training_of('none', shape.slices, shape.windows, shape.crop, volume)
    batch = training.loader.batch(0, 0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    for precision in precisions(report.quick):
        # Its compiler takes most of a minute on CPUs.
        compiled = not report.quick
        yield precision, partial(torch_step, batch, network, device, precision, compiled)
