"""Train, evaluate and use TACLNet.

  train      trains on the configured data set, then evaluates. The same command goes on from the
             last checkpoint if it was interrupted.
                 python -m taclnet_jax.main --config=configs/isbi12.py --workdir=runs/isbi12
  evaluate   scores the best checkpoint of a run on its test sections.
                 python -m taclnet_jax.main --mode=evaluate --workdir=runs/isbi12
  predict    membrane, attention and segments of a TIFF stack, with the network of a run.
                 python -m taclnet_jax.main --mode=predict --workdir=runs/isbi12 \\
                     --input=stack.tif --output=predictions

Settings of the configuration can be changed one by one: --config.fold=2,
--config.attention.alpha=0.5. All of them, with their meaning, are in taclnet_jax/config.py.
"""

from __future__ import annotations

import errno
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from taclnet_jax.errors import InputError, Interrupted

# What the operating system says where a file stands in the way of a folder, or rights are missing.
_PLACE_ERRORS = (
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
)

_CONFIG = config_flags.DEFINE_config_file(
    'config',
    None,
    'Python file with get_config(), such as configs/isbi12.py. Without it, train takes the '
    "synthetic volume with the poster's settings; the other modes take the settings of the run.",
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run: checkpoints, results.')
_MODE = flags.DEFINE_enum('mode', 'train', ['train', 'evaluate', 'predict'], 'What to do.')
_INPUT = flags.DEFINE_string('input', None, 'TIFF stack to predict.')
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Folder of the predictions; <workdir>/predictions by default.'
)


def main(argv: Sequence[str]) -> None:
    """Runs one mode; see the module's docstring."""
    if len(argv) > 1:
        raise InputError(f'Expected only --flags, found {argv[1]!r}. See --help.')
    logging.set_verbosity(logging.WARNING)
    if not _WORKDIR.value:
        raise InputError('Expected --workdir, the folder of the run. See --help.')
    # Imported late: JAX and its company take seconds that --help and mistakes need not wait for.
    from taclnet_jax.workdir import config_of_run

    workdir = Path(_WORKDIR.value)
    if _MODE.value == 'train':
        from taclnet_jax.config import get_config
        from taclnet_jax.train import train_and_evaluate

        train_and_evaluate(_CONFIG.value or get_config(), _WORKDIR.value)
    elif _MODE.value == 'evaluate':
        from taclnet_jax.evaluate import evaluate_run

        evaluate_run(config_of_run(_CONFIG.value, _WORKDIR.value), workdir)
    else:
        if not _INPUT.value:
            raise InputError('Expected --input, the TIFF stack to predict. See --help.')
        from taclnet_jax.predict import predict

        files = predict(
            config_of_run(_CONFIG.value, _WORKDIR.value),
            workdir,
            _INPUT.value,
            _OUTPUT.value or str(workdir / 'predictions'),
        )
        print('Written:', *files.values(), sep='\n  ')


def run() -> None:
    """The console script `taclnet`: `main` with exit status 2 and one message for bad input."""
    app.run(_main_with_messages, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
    if any(argument in ('-h', '--help', '-help') for argument in argv[1:]):
        print(__doc__.strip(), '\n\nFlags:')
        for holder in (_CONFIG, _WORKDIR, _MODE, _INPUT, _OUTPUT):
            flag = flags.FLAGS[holder.name]
            default = '' if flag.default is None else f' Default: {flag.default}.'
            text = textwrap.fill(flag.help + default, 70)
            print(f'  --{holder.name}', textwrap.indent(text, ' ' * 6), sep='\n')
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _CONFIG.value.items()  # A file that is not there raises only when it is used.
        return rest
    except OSError as error:
        reason = str(error).splitlines()[-1].strip()
        _fail(f'Expected --config to be a Python file with get_config(): {reason}.')
    except (KeyError, AttributeError) as error:
        _fail(f'The configuration has no setting {error}; taclnet_jax/config.py lists all of them.')
    # Values of a wrong type, and errors inside a config file.
    except Exception as error:
        _fail(str(error).strip() or type(error).__name__)


def _main_with_messages(argv: Sequence[str]) -> None:
    try:
        main(argv)
    except InputError as error:
        _fail(str(error))
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(128 + error.signal)
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        # Orbax and tensorstore have errors of their own for a full disk.
        if code in (errno.ENOSPC, errno.EDQUOT) or 'No space left on device' in str(error):
            _fail(f'The disk is full ({error}); make room and start the same command again.')
        if isinstance(error, OSError) and code in _PLACE_ERRORS:
            _fail(
                f'Expected a folder that can be written, found {error.filename}: {error.strerror}. '
                'Choose another --workdir or --output.'
            )
        raise


def _fail(message: str) -> NoReturn:
    print(f'taclnet: error: {message}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
    run()
