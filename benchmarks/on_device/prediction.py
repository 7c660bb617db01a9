"""Stage 5: prediction of whole sections, attention included."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import numpy as np

from benchmarks.on_device import network_settings, networks, precisions
from benchmarks.on_device.report import Report, Table
from benchmarks.on_device.timing import begin
from benchmarks.step import training_of
from benchmarks.topology import likelihood
from reproduction.budget import seconds_of_sections
from taclnet_jax.data.windows import targets_of
from taclnet_jax.inference import create_inference, predict_sections
from taclnet_jax.topology import BACKENDS

VIEWS = (1, 8)


def measure(report: Report) -> None:
    """Fills the table."""
    begin(report)
    size = 64 if report.quick else 1024
    cases = [
        (network, precision, backend)
        for network in reversed(networks(report.quick))
        for precision in reversed(precisions(report.quick))
        for backend in reversed(BACKENDS)
    ]
    table = report.table(
        f'Prediction of sections of {size}x{size}, l = 3, megavoxels/s',
        [_column(views) for views in VIEWS],
        [_row(*case) for case in cases],
        first='network',
        note='From grey values on the host to P, o and P_hat there. The networks are untrained, so '
        'that P has as many extrema as noise has; nothing is cut or written.',
    )
    # Looks like a section: cells bright, membranes dark.
    image = np.stack([likelihood(size, section) for section in range(6)])
    image = np.uint8(255 * (1 - image))
    for case in cases:
        with report.part(_row(*case)):
            _time_case(report, table, case, image)


def _time_case(report: Report, table: Table, case: tuple[str, str, str], image: np.ndarray) -> None:
    network, precision, backend = case
    training = training_of(
        'sta',
        3,
        1,
        24,
        precision=precision,
        attention__backend=backend,
        **network_settings(network, report.quick),
    )
    infer = create_inference(training.network, views=1, **training.settings.inference_options)
    for views in VIEWS:
        targets = targets_of([range(len(image))])[: 3 if report.quick else 6]
        views_of = replace(infer, views=views)
        predicted = predict_sections(views_of, training.new.variables, image, targets)
        seconds = median(seconds_of_sections(predicted)[1:])
        table.set(_row(*case), _column(views), image[0].size / seconds / 1e6)


def _column(views: int) -> str:
    return f'{views} view{"s" if views > 1 else ""}'


def _row(network: str, precision: str, backend: str) -> str:
    return f'{network}, {precision}, `{backend}`'
