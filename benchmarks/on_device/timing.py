"""What the stages that compute on the device share."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import Any, TypeVar

import jax

from benchmarks.on_device.report import Report
from benchmarks.topology import call_times

T = TypeVar('T')


def begin(report: Report) -> None:
    """Names the device."""
    device = jax.devices()[0]
    report.fact('device', device.device_kind)
    report.fact('platform', device.platform)


def milliseconds(report: Report, call: Callable[[], Any]) -> list[float]:
    """(median, fastest) of calls that leave something on the device, the first one left out."""
    times = call_times(lambda: jax.block_until_ready(call()), 0.02 if report.quick else 0.4)
    return [1e3 * median(times), 1e3 * min(times)]


def in_threads(calls: list[Callable[[], T]]) -> list[Future[T]]:
    """The calls, all ended. For compiling: XLA uses one core for most of it."""
    with ThreadPoolExecutor(min(len(calls), max((os.cpu_count() or 1) // 2, 1))) as pool:
        return [pool.submit(call) for call in calls]


def cost(analysis: Any, name: str) -> float | None:
    """One figure out of XLA's `cost_analysis`, where a backend gives any."""
    found = analysis[0] if isinstance(analysis, list) else analysis
    value = (found or {}).get(name, 0)
    return float(value) if value > 0 else None
