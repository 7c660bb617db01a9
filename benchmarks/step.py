"""A training step and a prediction of the networks here and in PyTorch, and with STA and ITA.

    python -m benchmarks.step            (PyTorch: pip install -e '.[benchmark]')
    taskset -c 0 env NPROC=2 python -m benchmarks.step     (CPU time of one core)

What is compared takes turns in one process, on the same cores, so that the ratios mean something.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.on_device import network_settings
from taclnet_jax.config import get_config
from taclnet_jax.cores import available_cores, compiler_options
from taclnet_jax.data.volume import Volume
from taclnet_jax.training import parallel
from taclnet_jax.training.setup import Training, prepare
from taclnet_jax.training.step import Step

COLUMNS = {
    'ours': 'ours',
    'sta': '+ STA',
    'ita': 'TACLNet',
    'eager': 'PyTorch, eager',
    'compiled': 'PyTorch, compiled',
}


def training_of(
    kind: str, slices: int, batch: int, crop: int, volume: Volume | None = None, **changes: Any
) -> Training:
    """A training with `kind` of attention on the synthetic volume.

    Args:
        kind: of `config.attention.kind`.
        slices, batch, crop: shape of a batch.
        volume: another one that has as many crops.
        **changes: further settings, with two underscores for dots.
    """
    config = get_config()
    config.attention.kind = kind
    config.slices, config.batch_size, config.crop = slices, batch, (crop, crop)
    # One crop a section; fold 3 trains on two thirds of them.
    config.validation_sections = 0
    config.synthetic.shape = (max(3 * batch // 2 + 1, 3 * slices), crop, crop)
    config.update_from_flattened_dict({k.replace('__', '.'): v for k, v in changes.items()})
    return prepare(config, volume)


def jax_step(training: Training, step: Step | None = None) -> Callable[[], None]:
    """A step of phase two as a function that waits for its end; its batch is on the devices.

    Args:
        training: whose.
        step: compiled already.
    """
    step = step or training.create_step(phase_two=True)
    state, batch = [training.new.to_devices()], parallel.shard(training.loader.batch(0, 0))

    def run() -> None:
        state[0], output = step(state[0], batch)
        jax.block_until_ready(output)

    return run


def jax_prediction(training: Training) -> Callable[[], None]:
    """P of a batch as a function that waits for its end."""
    image = jax.numpy.asarray(training.loader.batch(0, 0)['image'], jax.numpy.float32)
    apply = jax.jit(training.network.apply, compiler_options=compiler_options())
    variables = jax.device_put(training.new.variables)

    def run() -> None:
        jax.block_until_ready(jax.nn.sigmoid(apply(variables, image)))

    return run


def cases(l_values: Sequence[int]) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """(row, network in PyTorch, slices, changed settings)."""
    poster = network_settings('convlstm', quick=False)
    for slices in l_values:
        yield f'ConvLSTM, l = {slices}', 'convlstm', slices, poster
    # As in the tables: normalised.
    unet = poster | {'model__name': 'unet', 'model__normalise': True}
    yield 'U-Net, l = 3', 'unet', 3, unet
    yield 'flagship, l = 3', 'flagship', 3, network_settings('flagship', quick=False)


def seconds_in_turn(steps: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of CPU time on one core, of waiting on several; they take turns."""
    clock = time.process_time if len(available_cores()) == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # compiles
    for _ in range(repeats):
        for name, step in steps.items():
            start = clock()
            step()
            seconds[name].append(clock() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def measure(
    case: tuple[str, str, int, dict[str, Any]], batch: int, crop: int, repeats: int
) -> Iterator[str]:
    """The rows of a network's training and prediction, and of its training with STA and ITA."""
    title, network, slices, settings = case
    plain = training_of('none', slices, batch, crop, **settings)
    training: dict[str, Callable[[], None]] = {'ours': jax_step(plain)}
    prediction: dict[str, Callable[[], None]] = {'ours': jax_prediction(plain)}
    for kind in ('sta', 'ita') if network == 'convlstm' else ():
        training[kind] = jax_step(training_of(kind, slices, batch, crop, **settings))
    try:
        from benchmarks.torch_networks import torch_prediction, torch_step

        windows = plain.loader.batch(0, 0)
        for name, compiled in (('eager', False), ('compiled', True)):
            training[name] = torch_step(windows, network, compiled=compiled)
            prediction[name] = torch_prediction(windows, network, compiled)
    except ImportError:
        pass
    for what, steps in (('training', training), ('prediction', prediction)):
        took = seconds_in_turn(steps, repeats)
        cells = [f'{1e3 * took[name]:.0f}' if name in took else '' for name in COLUMNS]
        theirs = [took[name] for name in ('eager', 'compiled') if name in took]
        cells.append(f'{took["ours"] / min(theirs):.2f}' if theirs else '')
        yield f'| {title}, {what} | ' + ' | '.join(cells) + ' |'


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--slices', type=int, nargs='+', default=[1, 3, 5])
    parser.add_argument('--batch', type=int, default=10)
    parser.add_argument('--crop', type=int, default=156)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--only', help='rows that begin so')
    args = parser.parse_args()
    print(f'{args.batch} windows of {args.crop}x{args.crop}, {len(available_cores())} core(s)\n')
    print('| median ms | ' + ' | '.join(COLUMNS.values()) + ' | ours / faster PyTorch |')
    print('|---' * (len(COLUMNS) + 2) + '|')
    for case in cases(args.slices):
        if case[0].startswith(args.only or ''):
            for row in measure(case, args.batch, args.crop, args.repeats):
                print(row, flush=True)


if __name__ == '__main__':
    main()
