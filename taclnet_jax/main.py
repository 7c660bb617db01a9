"""Train, evaluate and use TACLNet.

  train      trains on the configured data set, then evaluates. The same command goes on from the
             last checkpoint if it was interrupted.
                 python -m taclnet_jax.main --config=isbi12 --workdir=runs/isbi12
  evaluate   scores the best checkpoint of a run on its test sections.
                 python -m taclnet_jax.main --mode=evaluate --workdir=runs/isbi12
  predict    membrane, attention and segments of a stack of sections, with the network of a run.
                 python -m taclnet_jax.main --mode=predict --workdir=runs/isbi12 \\
                     --input=stack.tif --output=predictions
             The same with a model that comes with the package, --model=isbi12, or that was handed
             out, --model=FOLDER, instead of --workdir.
  segment    joins the segments of a prediction to neurons in 3-d.
                 python -m taclnet_jax.main --mode=segment --input=predictions --output=neurons
  view       shows a prediction or neurons in Neuroglancer, in a browser, until Ctrl-C.
                 python -m taclnet_jax.main --mode=view --input=neurons
  export     makes a folder of a run's network to hand out, for --model of predict.
                 python -m taclnet_jax.main --mode=export --workdir=runs/isbi12 --output=my_model

--config is a Python file with get_config(), such as configs/isbi12.py, or the name of one that
comes with the package. Its settings can be changed one by one: --config.fold=2,
--config.attention.alpha=0.5. All of them, with their meaning, are in docs/configuration.md.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taclnet_jax import commandline, mode_flags
from taclnet_jax.errors import InputError, be_strict, doubt

# JAX and its company are imported late: they take seconds that --help and mistakes need not wait
# for, and the command line sets what they read when they start.
if TYPE_CHECKING:
    from absl import flags

    from taclnet_jax.evaluation.scoring import Validation
    from taclnet_jax.inference import Model
    from taclnet_jax.training.setup import Training
    from taclnet_jax.training.state import TrainState


def train_and_evaluate(config: Mapping[str, Any], workdir: str | Path) -> TrainState:
    """Trains, or goes on training, then evaluates the best checkpoint if sections were held out.

    Args:
        config: as `taclnet_jax.config.get_config` makes it.
        workdir: folder of checkpoints, metrics, pictures and results; a run that was interrupted
            there goes on.

    Returns:
        The final state, on the host.

    Raises:
        InputError: settings, data or workdir cannot be used.
        Interrupted: SIGTERM or SIGINT came.
    """
    from taclnet_jax.config import run_settings
    from taclnet_jax.data.windows import check_slices, targets_of
    from taclnet_jax.evaluation.evaluate import evaluate
    from taclnet_jax.evaluation.scoring import check_scored
    from taclnet_jax.inference import load
    from taclnet_jax.training import parallel
    from taclnet_jax.training.loop import train
    from taclnet_jax.training.setup import check_workdir, prepare
    from taclnet_jax.volumes import local_folder

    settings, folder = run_settings(config), local_folder(workdir, '--workdir')
    check_workdir(settings, folder)  # before what takes time
    training = prepare(settings)
    split, evaluation = training.split, settings.evaluate
    # Else it would be said after hours.
    scored = targets_of(split.test, evaluation.test_sections, training.volume.labelled)
    check_slices([stretch for _, stretch in scored], settings.sampling.slices)
    check_scored(training.volume, split.test, evaluation.test_sections, 'test sections')
    check_scored(training.volume, split.validation, evaluation.threshold_sections, 'validation')
    if not split.test and evaluation.threshold_from != 'fixed':
        doubt(
            'Nothing is held out to be scored, so that no threshold will be chosen. Predict with '
            'one that is given: --config.evaluate.threshold_from=fixed.'
        )
    state = train(training, folder, create_validation(training) if split.validation else None)
    if parallel.is_first():
        if split.test:
            evaluate(load(folder), training.volume, folder)
        print(f'Training curves: {folder / "curves.png"}')
    parallel.wait()
    return state


def create_validation(training: Training) -> Validation:
    """Scores of a network on the validation sections of its training, one view of each."""
    from taclnet_jax.evaluation.scoring import Validation
    from taclnet_jax.inference import create_inference
    from taclnet_jax.losses import LOSSES

    settings = training.settings
    return Validation(
        settings.evaluate,
        create_inference(training.network, views=1, **settings.inference_options),
        training.volume,
        training.split.validation,
        LOSSES[settings.losses.loss],
        refined=settings.attention.kind != 'none',
    )


def evaluate_run(config: Mapping[str, Any] | None, workdir: str | Path) -> dict[str, Any]:
    """Scores the best checkpoint of a run; see `load_run` and `evaluation.evaluate`."""
    from taclnet_jax.data import load_volume
    from taclnet_jax.evaluation.evaluate import evaluate
    from taclnet_jax.training.data_identity import check_same_data

    model = load_run(config, workdir)
    volume = load_volume(model.settings.data)
    check_same_data(volume, workdir)
    return evaluate(model, volume, workdir)


def export_run(workdir: str | Path, folder: str | Path, overwrite: bool = False) -> None:
    """Makes a folder of the best network of an evaluated run, or of fold 0, to hand out.

    Raises:
        InputError: there is no such run, or the folder is something else.
    """
    from taclnet_jax.evaluation.card import model_card
    from taclnet_jax.inference import export, load

    model = load(workdir)
    export(model, folder, model_card(model, workdir), overwrite)


def join_segments(input_path: str | None, output: str, options: Mapping[str, Any]) -> str:
    """Joins segments to neurons, see `neurons.volume.segment_volume`; returns what to tell.

    Raises:
        InputError: the segments or the output are missing, or cannot be used.
    """
    from taclnet_jax.neurons.volume import Options, segment_volume

    if not input_path or not output:
        missing = '--output, a folder' if input_path else '--input, the folder of a prediction'
        raise InputError(f'Expected {missing}. See --help.')
    done = segment_volume(input_path, output, Options(**options))
    written = '\n  '.join(['Written:', *done.files.values()])
    return f'{done.segments} segments are {done.neurons} neurons.\n{written}'


def view(folder: str | None, options: Mapping[str, Any]) -> None:
    """Serves a prediction or neurons to a browser, see `viewing`, until SIGINT or SIGTERM.

    Raises:
        InputError: there is nothing to look at, no Neuroglancer, or nothing can be served.
    """
    from taclnet_jax.viewing import open_look, serving

    if not folder:
        raise InputError('Expected --input, the folder of a prediction or of neurons. See --help.')
    look = open_look(folder)
    for reason in look.left_out:
        print(f'Left out: {reason}')
    with contextlib.suppress(KeyboardInterrupt), serving(look, **options) as served:
        print(f'Neuroglancer: {served.address}')
        if served.places:
            print(f'Doubtful places: {served.places}')
        print('Ctrl-C ends it.', flush=True)
        threading.Event().wait()


def load_run(config: Mapping[str, Any] | None, workdir: str | Path) -> Model:
    """The network of a run, used as `config` says where the calls of one run may differ.

    Raises:
        InputError: there is no run, or `config` is of another one.
    """
    from taclnet_jax.config import run_settings, same_run
    from taclnet_jax.inference import load
    from taclnet_jax.training.setup import check_same_run

    model = load(workdir)
    if config is None:
        return model
    settings = run_settings(config)
    advice = 'Leave --config out to use the settings of that run.'
    check_same_run(settings, model.settings, workdir, advice)
    return replace(model, settings=same_run(settings, model.settings))


def run() -> None:
    """The console script `taclnet`; its flags are defined only where it is one."""
    from absl import flags

    config = commandline.define_config()
    workdir = flags.DEFINE_string('workdir', None, 'Folder of the run: checkpoints, results.')
    model = flags.DEFINE_string(
        'model', None, 'Predict with this instead: isbi12, snemi3d, or a folder that was exported.'
    )
    mode = flags.DEFINE_enum('mode', 'train', list(mode_flags.MODES), 'What to do.')
    input_path = flags.DEFINE_string(
        'input',
        None,
        'Stack to predict: TIFF, folder of PNG or TIFF sections, HDF5, zarr, N5, precomputed; or '
        'the prediction, or such a stack of segments, of which to join those; or the prediction or '
        'the neurons to look at.',
    )
    output = flags.DEFINE_string(
        'output',
        '',
        'Folder, or gs:// or s3:// address, of predictions, <workdir>/predictions by default; '
        'or a folder of this machine for neurons, or for a model.',
    )
    together = mode_flags.define_processes()
    of_prediction = mode_flags.define_prediction()
    dry_run = flags.DEFINE_bool(
        'dry_run', False, 'Predict one window, and say what all would take.'
    )

    of_neurons = mode_flags.define_neurons()
    of_view = mode_flags.define_view()
    strict = flags.DEFINE_bool(
        'strict', False, 'Refuse input that there is only a warning of, such as lost chunks.'
    )

    def main() -> None:
        mode_flags.check_given(mode.value, shown)
        be_strict(strict.value)
        of_mode = mode_flags.MODES[mode.value]
        several = [*of_prediction, *of_neurons, *of_view]
        chosen = {flag.name: flag.value for flag in several if flag.name in of_mode}
        if mode.value == 'view':
            view(input_path.value, chosen)
            return
        if mode.value == 'segment':
            print(join_segments(input_path.value, output.value, chosen))
            return
        if model.value and (workdir.value or config.value is not None):
            raise InputError(
                'Expected --model without --workdir and --config: it has the settings that it was '
                'trained with. See --help.'
            )
        named = model.value or workdir.value
        if not named:
            if mode.value == 'predict':
                raise InputError(
                    'Expected --model, a name such as isbi12 or a folder, or --workdir, that of a '
                    'run. See --help.'
                )
            raise InputError('Expected --workdir, the folder of the run. See --help.')
        from taclnet_jax.volumes import local_folder, local_path

        local_folder(named, '--model' if model.value else '--workdir')
        place = local_path(named)  # as it is written: ./isbi12 is no name of a model
        if mode.value == 'train':
            settings = commandline.required(config)
            train_together(lambda: train_and_evaluate(settings, place), together)
        elif mode.value == 'evaluate':
            evaluate_run(config.value, place)
        elif mode.value == 'export':
            if not output.value:
                raise InputError('Expected --output, the folder of the model. See --help.')
            export_run(place, output.value, chosen['overwrite'])
            print(f'Written: {output.value}')
        else:
            if not input_path.value:
                raise InputError('Expected --input, the stack to predict. See --help.')
            from taclnet_jax.prediction.predict import Options, predict_volume

            options = Options(**chosen)
            used = load_run(config.value, place)
            if dry_run.value:
                from taclnet_jax.prediction.estimate import estimate

                print(estimate(used, input_path.value, options))
                return
            if model.value and not output.value:
                raise InputError('Expected --output, the folder of the predictions. See --help.')
            folder = output.value or Path(place) / 'predictions'
            files = predict_volume(used, input_path.value, folder, options)
            print('Written:', *dict.fromkeys(files.values()), sep='\n  ')

    of_modes = [*together, *of_prediction, dry_run, *of_neurons, *of_view, strict]
    shown = [config, workdir, model, mode, input_path, output, *of_modes]
    commandline.run(main, f'{__doc__}\n{mode_flags.flags_of_modes()}', shown)


def train_together(main: Callable[[], object], flags: list[flags.FlagHolder[Any]]) -> None:
    """Calls `main`, in one of several processes if `mode_flags.define_processes` got such."""
    distributed, *of_process = (flag.value for flag in flags)
    if not distributed and of_process == [None, None, None]:
        main()
        return
    from taclnet_jax.training.processes import run_together

    run_together(main, *of_process)


if __name__ == '__main__':
    run()
