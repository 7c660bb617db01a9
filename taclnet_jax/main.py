"""Train, evaluate and use TACLNet.

  train      trains on the configured data set, then evaluates. The same command goes on from the
             last checkpoint if it was interrupted.
                 python -m taclnet_jax.main --config=configs/isbi12.py --workdir=runs/isbi12
  evaluate   scores the best checkpoint of a run on its test sections.
                 python -m taclnet_jax.main --mode=evaluate --workdir=runs/isbi12
  predict    membrane, attention and segments of a stack of sections, with the network of a run.
                 python -m taclnet_jax.main --mode=predict --workdir=runs/isbi12 \\
                     --input=stack.tif --output=predictions

Settings of the configuration can be changed one by one: --config.fold=2,
--config.attention.alpha=0.5. All of them, with their meaning, are in taclnet_jax/config.py.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from taclnet_jax import commandline
from taclnet_jax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file(
    'config',
    None,
    'Python file with get_config(), such as configs/isbi12.py. Without it, train takes the '
    "synthetic volume with the poster's settings; the other modes take the settings of the run.",
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run: checkpoints, results.')
_MODE = flags.DEFINE_enum('mode', 'train', ['train', 'evaluate', 'predict'], 'What to do.')
_INPUT = flags.DEFINE_string(
    'input',
    None,
    'Stack to predict: TIFF, folder of PNG or TIFF sections, HDF5, zarr, N5, precomputed.',
)
_DATASET = flags.DEFINE_string('input_dataset', '', 'Its dataset, inside HDF5, zarr or N5.')
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Folder of the predictions; <workdir>/predictions by default.'
)


def main() -> None:
    """Runs one mode; see the module's docstring."""
    if not _WORKDIR.value:
        raise InputError('Expected --workdir, the folder of the run. See --help.')
    # Imported late: JAX and its company take seconds that --help and mistakes need not wait for.
    from taclnet_jax.training.workdir import config_of_run

    workdir = Path(_WORKDIR.value)
    if _MODE.value == 'train':
        from taclnet_jax.config import get_config
        from taclnet_jax.training.loop import train_and_evaluate

        train_and_evaluate(_CONFIG.value or get_config(), _WORKDIR.value)
    elif _MODE.value == 'evaluate':
        from taclnet_jax.evaluation.evaluate import evaluate_run

        evaluate_run(config_of_run(_CONFIG.value, _WORKDIR.value), workdir)
    else:
        if not _INPUT.value:
            raise InputError('Expected --input, the stack to predict. See --help.')
        from taclnet_jax.inference.predict import predict

        files = predict(
            config_of_run(_CONFIG.value, _WORKDIR.value),
            workdir,
            _INPUT.value,
            _DATASET.value,
            _OUTPUT.value or str(workdir / 'predictions'),
        )
        print('Written:', *files.values(), sep='\n  ')


def run() -> None:
    """The console script `taclnet`."""
    commandline.run(main, __doc__, [_CONFIG, _WORKDIR, _MODE, _INPUT, _DATASET, _OUTPUT])


if __name__ == '__main__':
    run()
