"""The compared systems: what each changes in a data set's base configuration, and nothing else.

The base is `configs/<dataset>.py`. It gives all systems the same data, augmentation, rule for
choosing the checkpoint, and time of one core: a system whose steps take longer gets fewer epochs.
Systems without attention have a phase two as well. Of what a system is, its learning rate is a
part: chosen on fold 3 of ISBI12, by its validation sections 17-19, none of which it scores.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict


class System(NamedTuple):
    """A row of the tables.

    Attributes:
        title: its name there.
        settings: what it changes, by the names of `taclnet_jax.config`.
        note: what a reader has to know of it, as a footnote.
        cost: what a step of either phase takes, in the flagship's steps of that phase, with three
            sections of ISBI12 on a CPU (`python -m benchmarks.system_steps`). Systems with the same
            phase one have one cost for it.
        rates: of phase one, by sections in a window, where another than that of `settings` is
            better; phase two has a tenth of it.
    """

    title: str
    settings: dict[str, Any]
    note: str = ''
    cost: tuple[float, float] = (1.0, 1.0)
    rates: Mapping[int, float] = MappingProxyType({})

    @property
    def scored(self) -> str:
        """The map that stands for it in the tables: P_hat where attention was trained, else P."""
        return 'P' if self.settings['attention.kind'] == 'none' else 'P_hat'


_PLAIN = {
    'attention.kind': 'none',
    'attention.form': 'refined',
    'loss': 'cross_entropy',
    'topological_loss.weight': 0.0,
    'perceptual_loss.weight': 0.0,
}

# The poster's equations as they stand, with the constants of the authors' code.
_POSTER = _PLAIN | {
    'attention.alpha': 1.0,
    'attention.beta': 0.5,
    'attention.sigma': 1.0,
    'attention.min_persistence': 0.1,
}


def _network(name: str, learning_rate: float, normalise: bool = False) -> dict[str, Any]:
    """A network with the learning rates of phase one and, a tenth of it, phase two.

    docs/findings.md has the validation scores by which they were chosen.
    """
    return {
        'model.name': name,
        'model.features': (),
        'model.normalise': normalise,
        'model.iterations': 0,
    } | _rates(learning_rate)


def _rates(learning_rate: float) -> dict[str, float]:
    return {'phase_one.learning_rate': learning_rate, 'phase_two.learning_rate': learning_rate / 10}


# The form of the loss that trains better than the poster's (docs/findings.md).
_TRAINED = _PLAIN | {'attention.form': 'straight_through'}

_UNET = _network('unet', 3e-3, normalise=True)
_CONVLSTM = _network('convlstm', 3e-2)
_CONVLSTM_RATES = MappingProxyType({5: 1e-1})

SYSTEMS: dict[str, System] = {
    'dive': System(
        'DIVE',
        _network('dive', 1e-2) | {'model.features': (16, 24, 32, 96)} | _PLAIN,
        'DIVE (Fakhry 2016): its table of layers could not be had; taclnet_jax/models/dive.py says '
        'what was chosen.',
        cost=(0.65, 0.65),
    ),
    'unet': System('U-Net', _UNET | _PLAIN, cost=(0.58, 0.52)),
    'mosinska': System(
        'Mosin.',
        _network('mosinska', 3e-3, normalise=True) | _PLAIN | {'perceptual_loss.weight': 0.1},
        'Mosin. (Mosinska 2018) iterates the same U-Net as the row of that name, with its '
        'perceptual loss in phase two.',
        cost=(1.71, 3.08),
    ),
    'topoloss': System(
        'TopoLoss',
        _UNET | _PLAIN | {'topological_loss.weight': 0.01},
        'TopoLoss (Hu 2019) trains the same U-Net: the loss, in phase two, is what differs.',
        cost=(0.58, 0.55),
    ),
    'convlstm': System('ConvLSTM', _CONVLSTM | _PLAIN, cost=(0.25, 0.25), rates=_CONVLSTM_RATES),
    'convlstm_sta': System(
        'ConvLSTM+STA',
        _CONVLSTM | _POSTER | {'attention.kind': 'sta'},
        cost=(0.25, 0.25),
        rates=_CONVLSTM_RATES,
    ),
    'taclnet': System(
        'TACLNet',
        _CONVLSTM | _POSTER | {'attention.kind': 'ita'},
        cost=(0.25, 0.25),
        rates=_CONVLSTM_RATES,
    ),
    'flagship': System(
        'flagship',
        _PLAIN,
        'The flagship is what configurations of real data train: a recurrent U-Net that sees what '
        'it predicted of the window before, without attention in training.',
    ),
    'flagship_sta': System('flagship+STA', _TRAINED | {'attention.kind': 'sta'}, cost=(1.0, 1.24)),
    'flagship_ita': System(
        'flagship+STA+ITA', _TRAINED | {'attention.kind': 'ita'}, cost=(1.0, 1.05)
    ),
}
"""By the name that the command line and the files of results use, in the order of the tables."""

BACKBONES = {
    'ConvLSTM': ('convlstm', 'convlstm_sta', 'taclnet'),
    'flagship': ('flagship', 'flagship_sta', 'flagship_ita'),
}
"""The network alone, trained with STA, and with STA and ITA."""

SLICES = 3
"""Sections in a window (the poster's l) wherever their number is not what is compared."""

ALL_SLICES = (1, 3, 5)
"""Those that are compared."""

DATASETS = ('isbi12', 'isbi13', 'cremi', 'synthetic')


class Run(NamedTuple):
    """One training: a system on a fold of a data set, from a seed."""

    dataset: str
    system: str
    fold: int
    seed: int
    slices: int = SLICES

    @property
    def key(self) -> str:
        """Names its files: `isbi12_taclnet_fold3_seed0_slices3`."""
        return f'{self.dataset}_{self.system}_fold{self.fold}_seed{self.seed}_slices{self.slices}'

    def __str__(self) -> str:
        sections = 'section' if self.slices == 1 else 'sections'
        return (
            f'{SYSTEMS[self.system].title} on {self.dataset}, fold {self.fold}, seed {self.seed}, '
            f'{self.slices} {sections}'
        )


def run_config(base: ConfigDict, run: Run, schedule: Mapping[str, Any]) -> ConfigDict:
    """The configuration of a run.

    Args:
        base: the data set's.
        run: system, fold, seed and sections in a window.
        schedule: settings of `reproduction.results.SCHEDULE`, as the flagship has them; the system
            gets as much time.
    """
    config = copy.deepcopy(base)
    system = SYSTEMS[run.system]
    rate = system.rates.get(run.slices)
    own = system.settings | (_rates(rate) if rate else {})
    config.update_from_flattened_dict({**own, **schedule})
    one, two = system.cost
    config.phase_one.epochs = _of_equal_time(config.phase_one.epochs, one)
    config.phase_one.halve_every = _of_equal_time(config.phase_one.halve_every, one)
    config.phase_two.epochs = _of_equal_time(config.phase_two.epochs, two)
    config.fold, config.seed, config.slices = run.fold, run.seed, run.slices
    if 0 < config.validation_sections < run.slices:
        # The fewest that make a window.
        config.validation_sections = run.slices
    return config


def _of_equal_time(epochs: int, cost: float) -> int:
    return max(round(epochs / cost), 1) if epochs else 0
