"""A process that reads files, one after the other, as the package does; `fuzz.py` starts it.

Each line of its input is JSON: [kind, path]. Each line of its output is JSON, too: what came out,
and more about it. Its memory is limited, and what only running code would do is seen.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.card import model_card
from taclnet_jax.inference import load
from taclnet_jax.training.vgg19 import load_vgg19
from taclnet_jax.volumes import open_array

VALUES, MESSAGE, WRONG = 'read', 'a message', 'wrong'
_LIMIT_BYTES = 2**32
# Arrays up to here are read in whole, of larger ones two corners.
_WHOLE_BYTES, _WHOLE_SECTIONS = 2**26, 100
_CODE = (
    *('subprocess.', 'os.system', 'os.exec', 'os.posix_spawn', 'os.fork'),
    *('pickle.', 'socket.connect', 'socket.getaddrinfo'),
)


def _volume(path: Path) -> None:
    for what in ('image', 'labels'):
        stored = open_array(path, what)
        depth, height, width = stored.shape
        size = depth * height * width * stored.dtype.itemsize
        if size <= _WHOLE_BYTES and depth <= _WHOLE_SECTIONS:
            for z in range(depth):
                stored[z]
        else:
            stored[0, slice(0, 64), slice(0, 64)]
            stored[depth - 1, slice(height - 64, height), slice(width - 64, width)]


def _run(path: Path) -> None:
    model = load(path)
    # What is made of its results by --mode=export.
    model_card(model, path)


READ: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys(('tiff', 'png', 'hdf5', 'zarr2', 'zarr3', 'n5', 'precomputed'), _volume),
    'npz': load_vgg19,
    'safetensors': load,
    **dict.fromkeys(('checkpoint', 'config', 'results'), _run),
}


def main() -> None:
    """Reads until its input ends."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # libraries print
    logging.disable(logging.WARNING)
    ran: list[str] = []
    sys.addaudithook(lambda event, _: ran.append(event) if event.startswith(_CODE) else None)
    # Beside what the libraries take.
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + _LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        kind, path = json.loads(line)
        ran.clear()
        outcome, detail = VALUES, ''
        try:
            with contextlib.redirect_stdout(sys.stderr):
                READ[kind](Path(path))
        except InputError as error:
            outcome, detail = MESSAGE, str(error)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f'{Path(where.filename).name}:{where.lineno}'
            outcome, detail = WRONG, f'{type(error).__name__} at {place}: {error}'[:400]
        if ran:
            outcome, detail = WRONG, f'code was run: {ran[0]}'
        answers.write(json.dumps([outcome, detail]) + '\n')
        answers.flush()


if __name__ == '__main__':
    main()
