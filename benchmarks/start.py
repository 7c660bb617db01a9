"""How long a training takes to start: from the command to its first step.

    TACLNET_DATA_DIR=/data python -m benchmarks.start --config=isbi12

Seconds until the bar of progress is there (imports and data), and until a step is done: once with
nothing compiled before, then with what that kept. Each start has a new folder of its own; data are
prepared before. Needs a terminal that Python can make (Linux, macOS).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

_SIZE = struct.pack('HHHH', 40, 200, 0, 0)  # rows and columns, for the bar
_SECONDS = 600  # that a start may take


def start(config: str, folder: Path) -> tuple[float, float]:
    """Seconds from the command until its bar of progress, and until its first step is done."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, _SIZE)
    environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled')}
    command = [sys.executable, '-m', 'taclnet_jax.main', f'--config={config}']
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        begin = time.monotonic()
        process = subprocess.Popen(
            [*command, f'--workdir={workdir}'], stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        shown, bar = b'', None
        try:
            while time.monotonic() - begin < _SECONDS:
                shown += os.read(ours, 65536)  # an OSError where the command has ended
                if bar is None and re.search(rb' 0/\d+ \[', shown):
                    bar = time.monotonic() - begin
                if bar and re.search(rb' [1-9]\d*/\d+ \[', shown):
                    return bar, time.monotonic() - begin
        except OSError:
            pass
        finally:
            process.kill()
            process.wait()
            os.close(ours)
    raise RuntimeError(f'There was no step: {shown[-1000:].decode()}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', default='synthetic', help='file, or name of a shipped one')
    parser.add_argument('--starts', type=int, default=3, help='with what was compiled before')
    arguments = parser.parse_args()
    print('| compiled before | bar, s | first step, s |\n|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        for i in range(1 + arguments.starts):
            bar, step = start(arguments.config, Path(folder))
            print(f'| {"yes" if i else "no"} | {bar:.1f} | {step:.1f} |', flush=True)


if __name__ == '__main__':
    main()
