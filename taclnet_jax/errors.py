"""The exceptions that end a command without a traceback, and what is doubtful."""

import errno
import logging

_LOGGER = logging.getLogger(__name__)
_strict = False
_told: set[str] = set()


class InputError(ValueError):
    """What the user gave cannot be used: says what was expected, what was found, what to do.

    The command line prints the message and exits with status 2; library callers get an ordinary
    `ValueError`.
    """


class Interrupted(Exception):
    """A signal, of which this has the number, stopped a run, after its state was saved."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


def be_strict(strict: bool) -> None:
    """Whether `doubt` refuses, in this process from now on."""
    global _strict
    _strict = strict


def doubt(message: str) -> None:
    """Warns of input that can be right, but seldom is; of the same once.

    Raises:
        InputError: with the same message, after `be_strict(True)`.
    """
    if _strict:
        raise InputError(f'{message} (--strict refuses it.)')
    if message not in _told:
        _told.add(message)
        _LOGGER.warning(message)


def disk_is_full(error: BaseException) -> bool:
    """Whether there was no room to write; Orbax and tensorstore have errors of their own for it."""
    code = error.errno if isinstance(error, OSError) else None
    return code in (errno.ENOSPC, errno.EDQUOT) or 'No space left on device' in str(error)


def memory_message(error: BaseException) -> str:
    """What to do where NumPy or JAX had too little memory; '' after any other exception."""
    exhausted = isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error)
    if not exhausted or disk_is_full(error):  # of which tensorstore says the same
        return ''
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    return (
        f'Out of memory ({reason}). To train, set a smaller config.batch_size, config.crop, '
        'config.crops_limit or config.cache_mb, or config.precision=bfloat16; to predict and '
        'score, a smaller config.evaluate.tile_px or config.evaluate.window_px, or fewer --workers.'
    )
