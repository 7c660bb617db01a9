"""A training step, and the process that takes it on the CPU, for exactness.py to compare with."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.on_device import network_settings, networks
from benchmarks.step import training_of
from taclnet_jax.files import write_bytes
from taclnet_jax.training import parallel


class Outcome(NamedTuple):
    """Of a step: the loss, P, and the parameters before and after it, on the host."""

    loss: float
    prob: np.ndarray
    before: Any
    after: Any


def cases(quick: bool) -> Iterator[tuple[str, str, bool]]:
    """(name, network, whether it is of phase two); in rehearsals phase two alone."""
    for network in networks(quick):
        for phase in (2,) if quick else (1, 2):
            yield f'{network}, phase {phase}', network, phase == 2


def take_step(
    network: str, phase_two: bool, precision: str, backend: str, quick: bool, variables: Any = None
) -> Outcome:
    """One step of TACLNet with a network on the default devices.

    Args:
        network: of `benchmarks.on_device.NETWORKS`.
        phase_two: whether attention is in it.
        precision: of the network's arithmetic.
        backend: of persistence.
        quick: whether crops are small.
        variables: to begin with; those of seed 0 if not given.
    """
    training = training_of(
        'ita',
        3,
        4,
        24 if quick else 156,
        precision=precision,
        attention__backend=backend,
        **network_settings(network, quick),
    )
    new = training.new if variables is None else training.new.replace(variables=variables)
    batch = parallel.shard(training.loader.batch(0, 0))
    state, output = training.create_step(phase_two)(new.to_devices(), batch)
    after = parallel.unreplicate(state.replace(memory=None)).variables
    prob = np.asarray(output['prob']).reshape(batch['image'].shape)
    return Outcome(float(np.asarray(output['loss'])[0]), prob, new.variables, after)


def main() -> None:
    """Writes the outcomes of `cases`, by name."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('path', type=Path)
    parser.add_argument('--quick', action='store_true')
    args = parser.parse_args()
    assert jax.default_backend() == 'cpu'
    outcomes = {
        # A plain tuple: of this process' classes the other one knows nothing.
        name: tuple(take_step(network, phase_two, 'float32', 'gudhi', args.quick))
        for name, network, phase_two in cases(args.quick)
    }
    write_bytes(args.path, pickle.dumps(outcomes))


if __name__ == '__main__':
    main()
