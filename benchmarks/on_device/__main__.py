"""The process of one stage; `python -m benchmarks.accelerator` starts it."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from benchmarks.on_device.report import Report
from taclnet_jax.commandline import with_messages


def main() -> None:
    """Measures what a module measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('module', help='with a function measure(report)')
    parser.add_argument('--report', type=Path, required=True, help='file of what is measured')
    parser.add_argument('--known', type=Path, required=True, help='file of earlier stages')
    parser.add_argument('--scratch', type=Path, required=True, help='folder that is thrown away')
    parser.add_argument('--seconds', type=float, required=True, help='after which it is ended')
    parser.add_argument('--quick', action='store_true', help='small sizes')
    args = parser.parse_args()
    report = Report(args.report, args.known, args.scratch, args.seconds, args.quick)
    importlib.import_module(args.module).measure(report)


if __name__ == '__main__':
    with_messages(main)
