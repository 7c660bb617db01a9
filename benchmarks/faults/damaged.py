"""Checkpoints that are truncated, deleted in part, or have one bit that is another."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import jax
import numpy as np

from benchmarks.faults.runs import new_state, random_state
from benchmarks.faults.stage import Outcome, Piece, Place
from taclnet_jax.config.settings import CheckpointSettings
from taclnet_jax.errors import InputError
from taclnet_jax.training.checkpoints import Checkpoints, best_variables
from taclnet_jax.training.state import TrainState

NAMED, BEST_NAMED = 'named, the one before taken', 'the best one named'
HARMLESS = 'read as it was saved'


def _truncate(path: Path, rng: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def _delete(path: Path, rng: Random) -> None:
    path.unlink()


def _flip(path: Path, rng: Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


WAYS: dict[str, Callable[[Path, Random], None]] = {
    'truncated': _truncate,
    'deleted': _delete,
    'flipped': _flip,
}


def opened(way: str) -> Callable[[Place], contextlib.AbstractContextManager[Piece]]:
    """Damages one file of one checkpoint a piece: mostly of the last one, or of the best."""

    @contextlib.contextmanager
    def open_(place: Place) -> Iterator[Piece]:
        template = new_state('convlstm')
        states = [random_state(template, step, step) for step in (1, 2)]
        whole, run = place.scratch / f'saved_{way}', place.scratch / f'damaged_{way}'
        shutil.rmtree(whole, ignore_errors=True)
        checkpoints = Checkpoints(whole, CheckpointSettings(), {'seed': 3})
        for state in states:
            checkpoints.save(state)
        checkpoints.offer(states[1], {CheckpointSettings().best_metric: 1.0})
        checkpoints.close()

        def piece(number: int, rng: Random) -> Outcome:
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(whole, run)
            checkpoint = run / 'checkpoints' / ('last' if number % 4 else 'best') / '2'
            files = sorted(p for p in checkpoint.rglob('*') if p.is_file() and p.stat().st_size)
            # Some of many small files carry nothing; most bytes are of arrays.
            weights = [path.stat().st_size if number % 2 else 1 for path in files]
            (file,) = rng.choices(files, weights)
            WAYS[way](file, rng)
            seen = _resumed if number % 4 else _used
            try:
                label, wrong = seen(run, checkpoint, states)
            except Exception as error:
                label, wrong = 'wrong', f'{type(error).__name__}: {error}'
            if wrong:
                kept = place.keep(run, f'{way}_{number}').name
                wrong = f'{kept} ({file.relative_to(run)}): {wrong}'
            return Outcome(label, wrong)

        yield piece

    return open_


def _resumed(run: Path, checkpoint: Path, states: list[TrainState]) -> tuple[str, str]:
    """What training goes on from, where the last checkpoint is damaged: (label, what is wrong)."""
    said = io.StringIO()
    checkpoints = Checkpoints(run, CheckpointSettings(), {'seed': 3})
    with contextlib.closing(checkpoints), contextlib.redirect_stderr(said):
        state = checkpoints.restore_last(states[0])
    named = f'{checkpoint} cannot be read' in said.getvalue()
    if same(state, states[1]):
        return HARMLESS, 'refused, and taken' if named else ''
    if same(state, states[0]):
        return NAMED, '' if named else 'not named'
    return 'wrong', 'loaded silently'


def _used(run: Path, checkpoint: Path, states: list[TrainState]) -> tuple[str, str]:
    """What prediction uses where the best checkpoint is damaged."""
    try:
        step, variables = best_variables(run)
    except InputError as error:
        return BEST_NAMED, '' if f'{checkpoint} cannot be read' in str(error) else 'not named'
    right = step == 2 and same(variables, states[1].final)
    return HARMLESS, '' if right else 'loaded silently'


def same(one: Any, other: Any) -> bool:
    """Whether two trees hold the same bits."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
