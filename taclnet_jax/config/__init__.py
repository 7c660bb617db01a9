"""The configuration of a run: a ConfigDict for people and files, typed settings for the program.

A configuration is turned into `RunSettings` once, where a command begins; from there on functions
take the block that they need.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from taclnet_jax.config.schema import as_nested, check_registries, entries, flatten, from_flat
from taclnet_jax.config.settings import RunSettings, default_settings
from taclnet_jax.errors import InputError
from taclnet_jax.files import parse_json

_KEPT = ('training', 'phase_two')
"""The roles of settings that a run keeps."""


def get_config() -> ConfigDict:
    """The default configuration: TACLNet as the poster has it, on the synthetic volume."""
    return to_config(default_settings())


def flagship_config() -> ConfigDict:
    """What was chosen by evidence (docs/findings.md, Screening), still on the synthetic volume.

    A recurrent U-Net that sees its prediction of the window before, and is attended to when it is
    used, not in training. What a data set needs is left to its file in `configs/`.
    """
    config = get_config()
    config.model.name = 'recurrent_unet'
    config.model.features = (16, 32, 64, 96, 128)
    config.model.normalise = True
    config.model.iterations = 2
    config.attention.kind = 'none'
    config.augment.elastic = 0.5
    config.crop = (128, 128)
    config.batch_size = 4
    config.optimizer.name = 'adamw'
    config.optimizer.weight_decay = 1e-4
    config.phase_one.learning_rate = 3e-3
    config.phase_one.schedule = 'cosine'
    config.phase_two.learning_rate = 3e-4
    config.checkpoint.every_epochs = 5
    config.evaluate.every_epochs = 5
    config.evaluate.threshold_from = 'validation'
    config.evaluate.views = 8
    return config


def to_config(settings: RunSettings) -> ConfigDict:
    """The settings as a ConfigDict, for people to change."""
    return ConfigDict(as_nested(settings))


def run_settings(config: Mapping[str, Any]) -> RunSettings:
    """The typed settings of a configuration, checked.

    Args:
        config: a ConfigDict as `get_config` makes it, or such a dictionary out of a file.

    Raises:
        InputError: names a setting that there is not, that is missing, or that cannot have its
            value, and what it may be.
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        block = value.items() if isinstance(value, Mapping | ConfigDict) else None
        found |= {key: value} if block is None else {f'{key}.{name}': x for name, x in block}
    there = {entry.key: entry for entry in entries(RunSettings())}
    if unknown := sorted(found.keys() - there.keys()):
        raise InputError(
            f'The configuration has no setting {unknown[0]}; docs/configuration.md lists all.'
        )
    # What no result hangs on may be missing: it is newer than the file, or of another data set.
    others = [b for b in ('synthetic', 'cremi', 'custom') if b != found.get('dataset')]
    if missing := sorted(
        key
        for key, e in there.items()
        if key not in found and e.role != 'free' and key.partition('.')[0] not in others
    ):
        raise InputError(
            f'Expected the whole configuration of a run, found no {", ".join(missing)}. Make it '
            'from taclnet_jax.config.get_config().'
        )
    settings = from_flat(RunSettings(), found)
    check_registries(settings)
    return settings


def read_settings(workdir: str | Path) -> RunSettings:
    """The settings of a run, out of its config.json.

    Raises:
        InputError: there is no run in the folder, or its file cannot be used.
    """
    path = Path(workdir) / 'config.json'
    try:
        return run_settings(parse_json(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f'Expected the folder of a run as --workdir; {path} does not exist. Train first with '
            '--mode=train.'
        ) from None
    except IsADirectoryError:
        raise InputError(f'Expected {path} to be a file, found a folder; remove it.') from None
    except (ValueError, AttributeError) as error:  # no JSON, no settings in it, or wrong ones
        raise InputError(f'{path} cannot be used: {error} Choose another --workdir.') from None


def differences(one: RunSettings, other: RunSettings, *, in_phase_one: bool = False) -> list[str]:
    """Lines 'key: one value, other value' of the settings in which two runs differ for good.

    With `in_phase_one` what phase one knows nothing of is left out.
    """
    there = flatten(other)
    return [
        f'{entry.key}: {entry.value} here, {there[entry.key]} there'
        for entry in sorted(entries(one), key=lambda entry: entry.key)
        if entry.role in (('training',) if in_phase_one else _KEPT)
        and entry.value != there[entry.key]
    ]


def same_run(settings: RunSettings, run: RunSettings) -> RunSettings:
    """The run's settings, with those of `settings` that may differ between the calls of one run."""
    changes = {entry.key: entry.value for entry in entries(settings) if entry.role not in _KEPT}
    return from_flat(run, changes)
