"""What a finished run leaves for the tables: one small JSON file.

    results/isbi12_taclnet_fold3_seed0_slices3.json

It holds the configuration, the scores of every section for each of `MAPS`, times, hardware and
version. Tables are made from these files alone, wherever they were computed. A file without the
whole configuration is of another version, whose scores may mean something else: it is refused.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from reproduction import poster
from reproduction.systems import ALL_SLICES, DATASETS, SYSTEMS, Run
from taclnet_jax.config import run_settings
from taclnet_jax.config.schema import entries, flatten
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.errors import InputError
from taclnet_jax.files import write_text
from taclnet_jax.metrics.maps import MAPS
from taclnet_jax.training.reporting import read_metrics

Result = dict[str, Any]

SCHEDULE = ('phase_one.epochs', 'phase_one.halve_every', 'phase_two.epochs')
"""The settings that a budget shortens; all runs of a comparison share them, as the flagship has
them (`reproduction.systems.run_config`)."""

_ANEW = 'Remove it, and run the same command again to make it anew.'

_TYPES: dict[str, type | tuple[type, ...]] = {
    'dataset': str,
    'content': str,
    'system': str,
    'fold': int,
    'seed': int,
    'slices': int,
    'updates': int,
    'hardware': str,
    'version': str,
    'seconds': dict,
    'sections': list,
    'schedule': dict,
    'config': dict,
}


def run_result(
    run: Run,
    folder: Path,
    content: str,
    schedule: Mapping[str, Any],
    wall_seconds: float,
    phase_one_from: str,
) -> Result:
    """The result of a finished run.

    Args:
        run: which it was.
        folder: its workdir, with `results.json` and `metrics.jsonl`.
        content: of the volume, as `content_of` says.
        schedule: that all runs share.
        wall_seconds: what it took, evaluation included.
        phase_one_from: the key of a run whose phase one it could go on from, '' for none. If it
            did, the time of phase one is not in `wall_seconds`.
    """
    scores = json.loads((folder / 'results.json').read_text())
    records = read_metrics(folder / 'metrics.jsonl')
    if any(record['phase'] == 1 for record in records):
        phase_one_from = ''
    result: Result = {
        **run._asdict(),
        'content': content,
        'updates': records[-1]['step'],
        'step': scores['step'],
        'seconds': {'wall': _short(wall_seconds)} | _epoch_seconds(records),
        'phase_one_from': phase_one_from,
        'hardware': scores['hardware'],
        'version': scores['version'],
        'sections': scores['sections'],
    }
    for name in MAPS:
        sections = scores[name]['per_section']
        result[name] = {
            'threshold': scores[name]['threshold'],
            'closing': scores[name]['closing'],
            'scores': {key: [_short(s[key]) for s in sections] for key in sections[0]},
        }
    config = influential(run_settings(scores['config']))
    return result | {'schedule': dict(schedule), 'config': config}


def write_result(folder: Path, result: Result) -> Path:
    """Writes a result into the folder of results, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{run_of(result).key}.json'
    # A line for each entry: differences between two files can be read.
    lines = [f'{json.dumps(key)}: {json.dumps(value)}' for key, value in result.items()]
    write_text(path, '{\n' + ',\n'.join(lines) + '\n}\n')
    return path


def read_results(folder: Path) -> list[Result]:
    """All results of a folder, in the order of their names; none if it does not exist.

    Raises:
        InputError: a file is damaged or holds something else.
    """
    results = []
    for path in sorted(folder.glob('*.json')):
        try:
            result = json.loads(path.read_text())
        except (ValueError, OSError) as error:
            raise InputError(f'The result {path} is damaged ({error}). {_ANEW}') from None
        _check(path, result)
        results.append(result)
    return results


def read_epoch_times(folder: Path) -> list[dict[str, Any]]:
    """What `benchmarks/epoch.py` has left in `<folder>/epoch_time/`, a file for each hardware.

    Raises:
        InputError: a file is damaged.
    """
    times = []
    for path in sorted((folder / 'epoch_time').glob('*.json')):
        try:
            record = json.loads(path.read_text())
            seconds = {
                system: {n: float(of_slices[str(n)]) for n in poster.HOURS_PER_EPOCH}
                for system, of_slices in record['seconds'].items()
            }
            fields = {key: record[key] for key in ('hardware', 'windows', 'crop')}
            times.append(fields | {'seconds': seconds})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f'The times in {path} are damaged ({error}); remove it.') from None
    return times


def content_of(config: Any) -> str:
    """'synthetic' where the configured volume is made up, 'real' otherwise.

    Files in CREMI's layout say so themselves, by the attribute `synthetic` of their root.
    """
    if config.dataset == 'synthetic':
        return 'synthetic'
    if config.dataset == 'cremi':
        import h5py

        from taclnet_jax.data.builder import raw_folder
        from taclnet_jax.data.cremi import find_sample

        folder = raw_folder(run_settings(config).data)
        for sample in config.cremi.samples:
            with h5py.File(find_sample(folder, sample, config.mirror)) as file:
                if file.attrs.get('synthetic', False):
                    return 'synthetic'
    return 'real'


def run_of(result: Result) -> Run:
    """The run that a result is of."""
    return Run(*(result[field] for field in Run._fields))


def other_settings(config: Any, result: Result) -> list[str]:
    """Lines 'key: value here, value there' where a result was made with other settings."""
    here, there = influential(run_settings(config)), result['config']
    # It matters whether there is a file.
    same_file = bool(here['perceptual_loss.vgg19']) == bool(there['perceptual_loss.vgg19'])
    return [
        f'{key}: {value} here, {there[key]} there'
        for key, value in sorted(here.items())
        if value != there[key] and not (key == 'perceptual_loss.vgg19' and same_file)
    ]


def influential(settings: RunSettings) -> dict[str, Any]:
    """What a result hangs on, as {'phase_one.epochs': 350, ...}; tuples as lists, as JSON has.

    Volumes of one's own have no part in the tables.
    """
    return {
        entry.key: list(entry.value) if isinstance(entry.value, tuple) else entry.value
        for entry in entries(settings)
        if entry.role != 'free' and not entry.key.startswith('custom.')
    }


def schedule_of(results: Iterable[Result]) -> dict[str, Any] | None:
    """The schedule of most of the results; None if there are none."""
    schedules = Counter(
        tuple(result['schedule'].get(key) for key in SCHEDULE) for result in results
    )
    if not schedules:
        return None
    return dict(zip(SCHEDULE, schedules.most_common(1)[0][0], strict=True))


def _epoch_seconds(records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Median time of a training epoch, by phase, without compilation and validation."""
    times: dict[int, list[float]] = {}
    for record in records:
        if 'time/step_ms' in record:
            steps = record['step'] / record['epoch']
            times.setdefault(record['phase'], []).append(record['time/step_ms'] / 1e3 * steps)
    return {f'epoch_phase_{phase}': _short(median(values)) for phase, values in times.items()}


def _short(value: float | None) -> float | None:
    """Five significant digits; None (null in JSON, which has no NaN) where it is not finite."""
    return float(f'{value:.5g}') if value is not None and math.isfinite(value) else None


def _check(path: Path, result: Any) -> None:
    """Refuses what is not the whole result of a run by this version."""
    missing = [
        key
        for key, kind in _TYPES.items()
        if not isinstance(result, dict) or not isinstance(result.get(key), kind)
    ]
    missing = missing or _missing_scores(result)
    if missing:
        raise InputError(
            f'Expected the result of a run in {path}, found no {", ".join(missing)}. {_ANEW}'
        )
    known = {'dataset': DATASETS, 'system': tuple(SYSTEMS), 'slices': ALL_SLICES}
    for key, values in known.items():
        if result[key] not in values:
            raise InputError(
                f'Expected {key} of the tables, {", ".join(map(str, values))}, in {path}; found '
                f'{result[key]}. Move the file elsewhere.'
            )
    settings, there = influential(RunSettings()).keys(), result['config'].keys()
    # Where files lay may be in it, and changes nothing.
    unknown = there - flatten(RunSettings()).keys()
    for found, keys in (('no', settings - there), ('the unknown', unknown)):
        if keys:
            raise InputError(
                f'Expected the whole configuration of this version in {path}, found {found} '
                f'{", ".join(sorted(keys))}. {_ANEW}'
            )
    if run_of(result).key != path.stem:
        raise InputError(
            f'{path} holds the result of {run_of(result).key}; give it that name again.'
        )


def _missing_scores(result: Result) -> list[str]:
    sections = len(result['sections'])
    missing = []
    for name in MAPS:
        scores = result[name].get('scores') if isinstance(result.get(name), dict) else None
        if not isinstance(scores, dict) or not all(
            isinstance(values, list) and len(values) == sections for values in scores.values()
        ):
            missing.append(f'{name}.scores of {sections} sections')
    return missing
