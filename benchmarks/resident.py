"""Memory of this process, as Linux counts it, in MiB."""

from pathlib import Path


def now() -> float:
    """What is resident."""
    return _status('VmRSS')


def peak() -> float:
    """The most since the start, or since `forget_peak`."""
    return _status('VmHWM')


def forget_peak() -> None:
    """Lets the peak begin anew."""
    Path('/proc/self/clear_refs').write_text('5')


def _status(name: str) -> float:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
