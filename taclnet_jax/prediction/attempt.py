"""A block that is done, or not, and why not."""

import contextlib
import traceback
from pathlib import Path

from taclnet_jax.errors import InputError, disk_is_full, memory_message
from taclnet_jax.files import write_text
from taclnet_jax.prediction.job import Index
from taclnet_jax.prediction.passes import Passes


def attempt(passes: Passes, name: str, index: Index) -> bool:
    """Does what a pass does to a block; whether it could. What went wrong is written down."""
    path = error_file(passes.scratch, name, index)
    try:
        getattr(passes, name)(index)
    except InputError as error:
        problem = f'{error}\n'
    except Exception as error:
        full = 'The disk is full: ' * disk_is_full(error)
        what = memory_message(error) or f'{full}{type(error).__name__}: {error}'
        problem = f'{what}\n\n{traceback.format_exc()}'
    else:
        path.unlink(missing_ok=True)
        return True
    with contextlib.suppress(OSError):  # The disk may be what is full.
        write_text(path, problem)
    return False


def error_file(scratch: Path, name: str, index: Index) -> Path:
    """Where it is written down why a pass could not do a block."""
    return scratch / 'errors' / f'{name}_{"_".join(map(str, index))}.txt'
