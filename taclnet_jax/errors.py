"""The exceptions that end a command without a traceback."""


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
