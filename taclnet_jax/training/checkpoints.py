"""Checkpoints of a run, with Orbax: the last few, the best one, and the end of phase one."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from taclnet_jax.config.settings import CheckpointSettings
from taclnet_jax.errors import InputError
from taclnet_jax.metrics import HIGHER_IS_BETTER
from taclnet_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints below `<workdir>/checkpoints`.

    `last/` holds the last few, from which an interrupted run goes on; `best/` the one with the best
    validation metric; `phase_one/` the end of phase one, for other runs of the same. Each holds the
    variables, the optimizer's state, the ITA memory, the step, and the run's configuration.

    Args:
        workdir, config: the run's folder; its configuration, stored with each.
        settings: which are kept.
    """

    def __init__(self, workdir: Path, settings: CheckpointSettings, config: dict[str, Any]) -> None:
        self.folder = Path(workdir).absolute() / 'checkpoints'
        self._config = config
        self._metric = settings.best_metric
        self._last = _manager(self.folder / 'last', settings.keep)
        self._best = _manager(self.folder / 'best', 1)
        self._phase_one = _manager(self.folder / 'phase_one', 1)
        self._best_score = -np.inf
        if (step := self._best.latest_step()) is not None:
            self._best_score = _info(self.folder / 'best', step)['score']

    def save(self, state: TrainState) -> None:
        """Saves a state that is on the host, whole or not at all, in the background."""
        self._write(self._last, state, None)

    def offer(self, state: TrainState, validation: dict[str, float]) -> None:
        """Keeps a state that is on the host as the best if its scores, by name, are."""
        value = validation[self._metric]
        score = value if HIGHER_IS_BETTER[self._metric] else -value
        if score > self._best_score:
            self._best_score = score
            self._write(self._best, state, score)

    def save_phase_one(self, state: TrainState) -> None:
        """Keeps the state as the end of phase one."""
        self._write(self._phase_one, state.replace(memory=None), None)

    def restore_last(self, template: TrainState) -> TrainState | None:
        """The last state that can be read, or None.

        States that cannot be read are named and put aside.
        """
        for step in sorted(self._last.all_steps(), reverse=True):
            try:
                return _state(self.folder / 'last', step, template)
            except InputError as error:
                aside, problem = self.folder / 'unreadable', str(error).rsplit('; ', 1)[0]
                print(
                    f'{problem}; it is moved to {aside}, and the run goes on from the one before.',
                    file=sys.stderr,
                )
                aside.mkdir(exist_ok=True)
                shutil.rmtree(aside / str(step), ignore_errors=True)
                shutil.move(self.folder / 'last' / str(step), aside)
                self._last.reload()
        return None

    def close(self) -> None:
        """Waits and lets go of the folders."""
        for manager in (self._last, self._best, self._phase_one):
            manager.close()

    def _write(
        self, manager: ocp.CheckpointManager, state: TrainState, score: float | None
    ) -> None:
        step = int(state.step)
        if step in manager.all_steps():
            return
        info = {'config': self._config, 'step': step, 'score': score}
        manager.save(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(state.final),
                training=ocp.args.StandardSave(_training(state)),
                info=ocp.args.JsonSave(info),
            ),
        )


def best_variables(workdir: Path) -> tuple[int, Any]:
    """(step, variables) of a run's best network, or its last where no validation chose one.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    folder = Path(workdir).absolute() / 'checkpoints'
    for name in ('best', 'last'):
        if (step := _latest(folder / name)) is not None:
            variables = ocp.args.StandardRestore()
            return step, _restored(folder / name, step, variables=variables)['variables']
    raise InputError(
        f'Expected a trained network in {folder}, found no checkpoint; train first, with '
        '--mode=train and this --workdir.'
    )


def phase_one_of(workdir: Path, start_from: str) -> str:
    """The checkpoints of the phase one that a run ended, or went on from."""
    own = workdir / 'checkpoints' / 'phase_one'
    return str(own) if any(own.glob('[0-9]*')) else start_from


def restore_phase_one(folder: str, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """The end of another run's phase one, in its `<workdir>/checkpoints/phase_one`.

    Returns:
        (state, the run's configuration). The template is a state of the same network and optimizer,
        whose ITA memory the state has.

    Raises:
        InputError: there is no such checkpoint, or it cannot be read.
    """
    path = Path(folder).absolute()
    step = _latest(path)
    if step is None:
        raise InputError(
            "Expected config.start_from to name a run's checkpoints/phase_one; "
            f'found no checkpoint in {path}. Has that run finished its phase one?'
        )
    state = _state(path, step, template.replace(memory=None))
    return state.replace(memory=template.memory), _info(path, step)['config']


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    return ocp.CheckpointManager(folder, options=options)


def _training(state: TrainState) -> dict[str, Any]:
    tree = {'step': state.step, 'opt_state': state.opt_state, 'memory': state.memory}
    if state.average is not None:  # What is used after training is stored apart.
        tree['variables'] = state.variables
    # Orbax does not store None.
    return {key: value for key, value in tree.items() if value is not None}


def _latest(folder: Path) -> int | None:
    """The last of the steps that a folder of checkpoints holds."""
    return max((int(p.name) for p in folder.glob('*') if p.name.isdecimal()), default=None)


def _state(folder: Path, step: int, template: TrainState) -> TrainState:
    restored = _restored(
        folder,
        step,
        variables=ocp.args.StandardRestore(template.final),
        training=ocp.args.StandardRestore(_training(template)),
    )
    final, training = restored['variables'], restored['training']
    average = None if template.average is None else final
    return TrainState(**({'variables': final, 'average': average, 'memory': None} | training))


def _info(folder: Path, step: int) -> dict[str, Any]:
    return dict(_restored(folder, step, info=ocp.args.JsonRestore())['info'])


def _restored(folder: Path, step: int, **items: Any) -> Any:
    """Parts of a checkpoint. Nothing is changed in the folder.

    Raises:
        InputError: one cannot be read.
    """
    path = folder / str(step)
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            return reader.restore(path, args=ocp.args.Composite(**items))
    except Exception as error:  # Orbax raises whatever its storage does.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f'Checkpoint {path} cannot be read ({reason}); remove it to use another one, or train '
            'again.'
        ) from error
