"""What the commands share: --help from the docstring, and one message instead of a traceback."""

import contextlib
import errno
import logging
import os
import re
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import platformdirs
from absl import app, flags
from absl import logging as absl_logging

from taclnet_jax.cores import available_cores
from taclnet_jax.errors import InputError, Interrupted, disk_is_full, memory_message

# Of what was compiled; the least recently used goes first.
_CACHE_BYTES = 2**31
# What the operating system says where a file stands in the way of a folder, or rights are missing.
_PLACE_ERRORS = [errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS]


def run(
    main: Callable[[], None], description: str | None, shown: Sequence[flags.FlagHolder[Any]]
) -> NoReturn:
    """Parses the flags, calls `main` and ends the process, with status 0 where all went well.

    --help prints the description and the flags. Bad input (`InputError`, unknown flags, wrong
    values, a broken configuration file), a full disk, too little memory and a place that cannot be
    written end with one line `taclnet: error: ...` and status 2. SIGINT and SIGTERM raise
    KeyboardInterrupt in `main`, so that what is half done is cleaned up, and end with status 128 +
    the signal's number.
    Any other exception is a mistake of the program and keeps its traceback.

    Args:
        main: takes nothing; the flags' values are in their holders.
        description: of the command; its module's `__doc__`.
        shown: what the `flags.DEFINE_*` of the command returned, in the order to show them in. One
            named `config` is of `config_flags.DEFINE_config_file`, and is read at once.
    """

    def parse(argv: list[str]) -> list[str]:
        if any(argument in ('-h', '--help', '-help') for argument in argv[1:]):
            tell(help_text(description, shown))
            sys.exit(0)
        return _parse(argv, shown)

    def guarded(argv: Sequence[str]) -> None:
        absl_logging.set_verbosity(absl_logging.WARNING)
        absl_logging.get_absl_handler().setFormatter(_Format())
        # Orbax logs every save, and the trace of every error, which it raises all the same.
        for name in ('absl', 'asyncio'):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        allow_callbacks()
        keep_compiled()
        signal.signal(signal.SIGTERM, interrupt)
        sys.unraisablehook = unraisable
        with_messages(main)

    app.run(guarded, flags_parser=parse)
    raise AssertionError('app.run ends the process')


def define_config() -> flags.FlagHolder[Any]:
    """The flag --config: a Python file with get_config(), or the name of a shipped one."""
    from ml_collections import config_flags

    from taclnet_jax.config.shipped import config_names

    names = ', '.join(config_names())
    return config_flags.DEFINE_config_file(
        'config',
        None,
        f'Python file with get_config(), such as configs/isbi12.py, or one of {names}.',
    )


def required(config: flags.FlagHolder[Any]) -> Any:
    """The configuration that --config names.

    Raises:
        InputError: it names none; says which there are.
    """
    if config.value is None:
        from taclnet_jax.config.shipped import config_names

        raise InputError(
            f'Expected --config, a Python file with get_config() or one of '
            f'{", ".join(config_names())}; found none. --config=synthetic needs no data.'
        )
    return config.value


def check_taken(
    command: str, taken: Sequence[str], defined: Sequence[flags.FlagHolder[Any]]
) -> list[str]:
    """The flags on the command line, by name.

    Args:
        command: such as '--mode=view'.
        taken: names of the flags that mean something to it.
        defined: all flags.

    Raises:
        InputError: there are others.
    """
    given = [holder.name for holder in defined if flags.FLAGS[holder.name].present]
    if others := [f'--{name}' for name in given if name not in taken]:
        raise InputError(
            f'Expected {command} with none but the flags that it takes, --{", --".join(taken)}; '
            f'found {", ".join(others)}. Leave them out; --help says what they are of.'
        )
    return given


def allow_callbacks() -> None:
    """Gives JAX a thread more than it has CPU devices, before it is imported.

    With fewer, gudhi's callbacks could hang (`taclnet_jax.topology.check_callbacks_can_run`).
    """
    if 'NPROC' in os.environ or 'jax' in sys.modules:
        return
    asked = re.findall(
        r'xla_force_host_platform_device_count=(\d+)', os.environ.get('XLA_FLAGS', '')
    )
    devices = max([1, *map(int, asked)])
    if len(available_cores()) <= devices:
        os.environ['NPROC'] = str(devices + 1)


def keep_compiled() -> None:
    """Lets JAX keep what it compiles in the user's cache folder, before it is imported.

    A step takes seconds to compile, at every start again. Computations with callbacks are kept from
    JAX 0.11 on. Variables of the environment that are set already are left alone.
    """
    if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
        return
    folder = Path(platformdirs.user_cache_dir('taclnet_jax'))
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not (folder.is_dir() and os.access(folder, os.W_OK)):  # JAX would warn time and again
        return
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder)
    os.environ.setdefault('JAX_COMPILATION_CACHE_MAX_SIZE', str(_CACHE_BYTES))
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')


def help_text(description: str | None, shown: Sequence[flags.FlagHolder[Any]]) -> str:
    """The description, then each flag with its meaning and default."""
    lines = [(description or '').strip(), '', 'Flags:']
    for holder in shown:
        flag = flags.FLAGS[holder.name]
        # As it is written on the command line.
        default = '' if flag.default is None else (flag.default_as_str or '').strip("'")
        default = f' Default: {default}.' if default else ''
        text = textwrap.fill(flag.help + default, 70)
        lines += [f'  --{holder.name}', textwrap.indent(text, ' ' * 6)]
    return '\n'.join(lines)


def with_messages(main: Callable[[], object]) -> None:
    """Calls `main`; errors that the user can mend become one message and exit status 2."""
    try:
        main()
    except InputError as error:
        fail(str(error))
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(128 + error.signal)
    except KeyboardInterrupt as error:
        _stopped(error)
    except Exception as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # h5py fails to close what it stopped
            _stopped(error.__context__)
        if disk_is_full(error):
            fail(f'The disk is full ({error}); make room and start the same command again.')
        if message := memory_message(error):
            fail(message)
        if isinstance(error, OSError) and error.errno in _PLACE_ERRORS:
            fail(
                f'Expected a place that can be written, found {error.filename}: {error.strerror}. '
                'Choose another one.'
            )
        raise


def _stopped(interrupt: KeyboardInterrupt) -> NoReturn:
    number = _signal_of(interrupt)
    stopped = f'Stopped by {signal.Signals(number).name}.'
    print(stopped, *getattr(interrupt, '__notes__', ()), file=sys.stderr)
    sys.exit(128 + number)


class _Format(absl_logging.PythonFormatter):
    """Shows warnings of ours as `complain` shows errors, others as absl does."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name.startswith('taclnet_jax.'):
            return f'taclnet: {record.levelname.lower()}: {record.getMessage()}'
        return str(super().format(record))


def fail(message: str) -> NoReturn:
    """Ends the process with `taclnet: error: <message>` and exit status 2."""
    complain(message)
    sys.exit(2)


def complain(message: str) -> None:
    """Prints `taclnet: error: <message>`."""
    print(f'taclnet: error: {message}', file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Prints; that a reader such as `head` has read enough is no mistake."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Python writes what is left when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(argv: list[str], shown: Sequence[flags.FlagHolder[Any]]) -> list[str]:
    from taclnet_jax.config.shipped import config_names, config_path

    argv, file = _config_first(argv), None
    sys.argv = argv  # where ml_collections looks for changes of --config
    for i, argument in enumerate(argv):
        flag, _, name = argument.partition('=')
        name = os.path.expanduser(name)  # which no shell writes out behind =
        if flag in ('--config', '-config'):
            name = file = str(config_path(name)) if name in config_names() else name
        if '=' in argument:
            argv[i] = f'{flag}={name}'
    try:
        rest = flags.FLAGS(argv)
        # A file that is not there raises only when it is used.
        if file is not None and not hasattr(config := flags.FLAGS['config'].value, 'items'):
            fail(_unusable(file, f'get_config() returned {config!r}'))
    except flags.UnrecognizedFlagError as error:
        if error.flagname.startswith('config.'):
            fail(f'Expected --config, of which --{error.flagname} is a setting; found none.')
        fail(str(error))
    # Of the file itself, values of a wrong type, and settings that there are not.
    except Exception as error:
        fail((file is not None and _mistake_in(file, error)) or _mistake_of_flags(error))
    if len(rest) > 1:
        fail(f'Expected only --flags, found {rest[1]!r}. See --help.')
    return rest


def _config_first(argv: list[str]) -> list[str]:
    """With --config in one piece, and before the --config.fold=2 that change it."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in ('--config', '-config'):
            joined[-1] += f'={argument}'
        else:
            joined.append(argument)
    config = ('--config=', '-config=')
    return joined[:1] + sorted(joined[1:], key=lambda argument: not argument.startswith(config))


def _mistake_in(file: str, error: BaseException | None) -> str:
    """What to tell of an error that a configuration file made; '' if it did not."""
    if isinstance(error, AttributeError) and error.name == 'get_config':
        return _unusable(file, 'it has no get_config()')
    if isinstance(error, OSError):
        return _unusable(file, str(error).splitlines()[-1].strip())
    while error is not None:
        if isinstance(error, SyntaxError) and error.filename:
            return _unusable(f'{error.filename}, line {error.lineno}', error.msg)
        frames = traceback.extract_tb(error.__traceback__)
        if lines := [frame.lineno for frame in frames if frame.filename == file]:
            return _unusable(f'{file}, line {lines[-1]}', f'{type(error).__name__}: {error}')
        error = error.__context__  # ml_collections and absl raise others in its place
    return ''


def _unusable(where: str, reason: str) -> str:
    from taclnet_jax.config.shipped import config_names

    return (
        f'Expected --config to be a Python file with get_config(), or one of '
        f'{", ".join(config_names())}; {where} cannot be used: {reason.rstrip(".")}.'
    )


def _mistake_of_flags(error: Exception) -> str:
    if isinstance(error, KeyError | AttributeError):
        # As ml_collections has it: its name in quotes, and perhaps a line on a similar one.
        text = error.args[0].args[0] if isinstance(error.args[0], KeyError) else error.args[0]
        name, _, hint = str(text).partition('\n')
        name = name.strip('"\'')
        told = f'The configuration has no setting {name!r}; docs/configuration.md lists all. {hint}'
        return told.strip()
    return str(error).strip() or type(error).__name__


def interrupt(number: int, frame: Any) -> NoReturn:
    """Handles a signal: KeyboardInterrupt with its number, which `with_messages` tells."""
    raise KeyboardInterrupt(number)


def _signal_of(interrupt: BaseException) -> int:
    return interrupt.args[0] if interrupt.args else signal.SIGINT  # Python's own has no number


def unraisable(swallowed: Any) -> None:
    """For `sys.unraisablehook`: sends interrupts again that finalizers would swallow."""
    value = swallowed.exc_value
    if isinstance(value, KeyboardInterrupt):
        # From another thread and later: here it would be swallowed again.
        main = threading.main_thread().ident
        number = _signal_of(value)
        threading.Timer(0.05, signal.pthread_kill, [main, number]).start()
    # Writes of tensorstore that end after one that failed, which has closed the loop and is told.
    elif not (isinstance(value, RuntimeError) and value.args == ('Event loop is closed',)):
        sys.__unraisablehook__(swallowed)
