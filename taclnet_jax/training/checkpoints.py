"""Checkpoints of a run, with Orbax: the last few, the best one, and the end of phase one.

Each holds digests of its content, by which a changed bit is found when it is read.
"""

import errno
import hashlib
import json
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from taclnet_jax.config.settings import CheckpointSettings
from taclnet_jax.errors import InputError, doubt
from taclnet_jax.metrics import HIGHER_IS_BETTER
from taclnet_jax.training import parallel
from taclnet_jax.training.state import TrainState

_PAUSES_S = (0.0, 1.0, 5.0)
"""Between attempts to read; an error of the storage may pass."""


class Damaged(InputError):
    """A checkpoint whose content is not what was saved, however often it is read."""


class Checkpoints:
    """The checkpoints below `<workdir>/checkpoints`.

    `last/` holds the last few, from which an interrupted run goes on; `best/` the one with the best
    validation metric; `phase_one/` the end of phase one, for other runs of the same. Each holds the
    variables, the optimizer's state, the ITA memory, the step, and the run's configuration.

    Only training opens them so, one at a time, with all its processes: what a killed one left
    half-written is removed. For readers there are the functions below, which change nothing.

    Args:
        workdir, config: the run's folder; its configuration, stored with each.
        settings: which are kept.

    Raises:
        InputError: the best one cannot be read.
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
            info = _info(self.folder / 'best', step)
            if _judged_by(info['config']) == _judged_by(config):
                self._best_score = info['score']
            else:
                doubt(
                    f'{self.folder / "best"} was chosen by another metric or threshold; whatever '
                    'is validated next takes its place.'
                )

    def save(self, state: TrainState) -> None:
        """Saves a state that is on the host, whole or not at all, in the background.

        Raises:
            InputError: it has parameters that are not finite. So do the other ways to save.
        """
        self._write(self._last, state, None)

    def offer(self, state: TrainState, validation: dict[str, float]) -> None:
        """Keeps a state that is on the host as the best if its scores, by name, are."""
        value = validation[self._metric]
        score = value if HIGHER_IS_BETTER[self._metric] else -value
        if parallel.of_first(score > self._best_score):  # of which each has computed its own
            self._write(self._best, state, score)
            self._best_score = score

    def save_phase_one(self, state: TrainState) -> None:
        """Keeps the state as the end of phase one."""
        self._write(self._phase_one, state.replace(memory=None), None)

    def restore_last(self, template: TrainState) -> TrainState | None:
        """The last state that can be read, or None.

        Damaged states are named and put aside.

        Raises:
            InputError: one cannot be read at the moment, and may be good.
        """
        state = self._restore_last(template) if parallel.is_first() else None
        step = parallel.of_first(-1 if state is None else state.step)
        if state is None and step >= 0:
            state = _state(self.folder / 'last', step, template)
        self._last.reload()
        return state

    def _restore_last(self, template: TrainState) -> TrainState | None:
        for step in sorted(self._last.all_steps(), reverse=True):
            try:
                return _state(self.folder / 'last', step, template)
            except Damaged as error:
                aside, problem = self.folder / 'unreadable', str(error).rsplit('; ', 1)[0]
                print(
                    f'{problem}; it is moved to {aside}, and the run goes on from the one before.',
                    file=sys.stderr,
                )
                aside.mkdir(exist_ok=True)
                shutil.rmtree(aside / str(step), ignore_errors=True)
                shutil.move(self.folder / 'last' / str(step), aside)
        return None

    def close(self) -> None:
        """Waits and lets go of the folders."""
        for manager in (self._last, self._best, self._phase_one):
            manager.close()

    def _write(
        self, manager: ocp.CheckpointManager, state: TrainState, score: float | None
    ) -> None:
        step = int(state.step)
        if score is None and step in manager.all_steps():
            return
        if not all(np.isfinite(x).all() for x in jax.tree.leaves((state.variables, state.final))):
            raise InputError(
                f'The parameters after step {step} are not finite, and were not saved. Lower the '
                'learning rate; the run goes on from the checkpoint before.'
            )
        if score is not None:  # one that is later, of a run that went on from before, Orbax keeps
            manager.wait_until_finished()
            for later in [found for found in manager.all_steps() if found >= step]:
                manager.delete(later)
        info = {'config': self._config, 'step': step, 'score': score}
        arrays = {'variables': state.final, 'training': _training(state)}
        digests = {name: _digest(tree) for name, tree in arrays.items()} | {'info': _sum_of(info)}
        manager.save(
            step,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardSave(tree) for name, tree in arrays.items()},
                info=ocp.args.JsonSave(info | {'sha256': digests}),
            ),
        )


def best_variables(workdir: Path) -> tuple[int, Any]:
    """(step, variables) of a run's best network, or its last where no validation chose one.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    folder = Path(workdir).absolute() / 'checkpoints'
    for name in ('best', 'last'):
        while (step := _latest(folder / name)) is not None:
            variables = ocp.args.StandardRestore()
            try:
                return step, _restored(folder / name, step, variables=variables)['variables']
            except InputError:
                # A training that goes on has replaced it meanwhile, and removed it.
                if step == _latest(folder / name):
                    raise
    raise InputError(
        f'Expected a trained network in {folder}, found no checkpoint; train first, with '
        '--mode=train and this --workdir.'
    )


def stored_config(workdir: Path) -> dict[str, Any] | None:
    """The configuration in the newest checkpoint of a run that is whole; None without one.

    Raises:
        InputError: one cannot be read at the moment.
    """
    for name in ('last', 'best', 'phase_one'):
        folder = Path(workdir).absolute() / 'checkpoints' / name
        for step in sorted(_steps(folder), reverse=True):
            with suppress(Damaged):
                return dict(_info(folder, step)['config'])
    return None


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


def _judged_by(config: dict[str, Any]) -> tuple[Any, ...]:
    """What makes the scores of two validations comparable."""
    names = ('threshold', 'threshold_from', 'threshold_sections')
    patches = ('betti_patch', 'betti_patches', 'betti_seed')
    checkpoint, evaluate = config.get('checkpoint', {}), config.get('evaluate', {})
    return checkpoint.get('best_metric'), *(evaluate.get(name) for name in names + patches)


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    # Several processes wait for each other by names, which another folder's would be taken for.
    apart = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=folder.name)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, cleanup_tmp_directories=True, multiprocessing_options=apart
    )
    return ocp.CheckpointManager(folder, options=options)


def _training(state: TrainState) -> dict[str, Any]:
    tree = {name: getattr(state, name) for name in ('step', 'opt_state', 'memory', 'losses')}
    if state.average is not None:  # What is used after training is stored apart.
        tree['variables'] = state.variables
    # Orbax does not store None.
    return {key: value for key, value in tree.items() if value is not None}


def _steps(folder: Path) -> list[int]:
    """The steps that a folder of checkpoints holds."""
    return [int(p.name) for p in folder.glob('*') if p.name.isdecimal()]


def _latest(folder: Path) -> int | None:
    return max(_steps(folder), default=None)


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
    return dict(_restored(folder, step)['info'])


def _restored(folder: Path, step: int, **items: Any) -> Any:
    """The info of a checkpoint and arrays in it, as they were saved; changes nothing in the folder.

    Raises:
        Damaged: one is not as it was saved.
        InputError: one cannot be read at the moment.
    """
    path = folder / str(step)
    for pause in (*_PAUSES_S, None):
        try:
            return _read(path, items)
        except Exception as error:  # Orbax raises whatever its storage does.
            storage = _storage_error(error, path)
            if pause is not None and path.exists():
                time.sleep(pause if storage else 0)
                continue
            reason = (str(storage or error).strip().splitlines() or [type(error).__name__])[0][:200]
            if storage:
                raise InputError(
                    f'Checkpoint {path} cannot be read at the moment ({reason}), but may be good; '
                    'nothing was changed there. Start the same command again when its disk answers.'
                ) from error
            raise Damaged(
                f'Checkpoint {path} cannot be read ({reason}); remove it to use another one, or '
                'train again.'
            ) from error
    raise AssertionError('the last attempt returns or raises')


def _read(path: Path, items: dict[str, Any]) -> Any:
    """The info of a checkpoint and arrays in it, read once.

    Raises:
        ValueError: they are not what was saved; or whatever Orbax does.
    """
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    handler = ocp.CompositeCheckpointHandler()
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
        args = ocp.args.Composite(**items, info=ocp.args.JsonRestore())
        restored = dict(reader.restore(path, args=args).items())
    info = restored['info']
    digests = info.pop('sha256', {})
    for name in items:
        if _digest(restored[name]) != digests.get(name):
            raise ValueError(f'its {name} are not those that were saved')
    if _sum_of(info) != digests.get('info'):
        raise ValueError('its info is not what was saved')
    return restored


def _storage_error(error: Exception, path: Path) -> Exception | None:
    """Why a checkpoint's files cannot be read; None where they can, whatever is in them."""
    if isinstance(error, MemoryError):
        return error
    missing = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    if isinstance(error, OSError) and error.errno not in (None, *missing):
        return error
    try:  # The libraries below Orbax have errors of their own for what the system says.
        for file in path.rglob('*'):
            if file.is_file():
                with file.open('rb') as content:
                    while content.read(2**20):
                        pass
    except OSError as found:
        return None if found.errno in missing else found
    return None


def _digest(tree: Any) -> str:
    """SHA-256 of the names, types, shapes and bytes of a tree's arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f'{jax.tree_util.keystr(path)} {array.dtype} {np.shape(leaf)};'.encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _sum_of(info: dict[str, Any]) -> str:
    """SHA-256 of what is stored as JSON."""
    return hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()
