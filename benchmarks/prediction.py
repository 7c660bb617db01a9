r"""How fast volumes are predicted, what of it is computing, and how much memory it takes.

    python -m benchmarks.prediction --model=isbi12 --input=isbi12/test-volume.tif

First megavoxels a second of P by network and views, in memory, of untrained networks at full
resolution. Then a whole prediction of the volume by a process of its own, from zarr to zarr, and
the same sections predicted in memory, both after compiling: what it takes beyond that is reading,
writing, and what blocks compute twice. At last the peak memory of three predictions from one volume
of four gigavoxels: of one stack of blocks, and of four times as many along z, and across.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from taclnet_jax.commandline import with_messages
from taclnet_jax.config import flagship_config, get_config, run_settings
from taclnet_jax.inference import Model, create_inference, load
from taclnet_jax.models import MODELS, create_model
from taclnet_jax.volumes import LazySections, as_uint8_image, open_array, read_whole, write_array

VIEWS = (1, 8)
HUGE = (1024, 2048, 2048)
"""(z, y, x) of four gigavoxels."""

BOXES = ((8, 1024, 1024), (32, 1024, 1024), (8, 2048, 2048))
"""Sizes of what is predicted of it."""

_PREDICT = """
import resource, sys, time
from taclnet_jax import commandline
commandline.allow_callbacks()
from benchmarks.prediction import with_views
from taclnet_jax.inference import load
from taclnet_jax.prediction.predict import Options, predict_volume
place, views, volume, output, box = sys.argv[1:]
model = with_views(load(place), int(views))
first = '0:3,' + box.split(',', 1)[1]
predict_volume(model, volume, output + '_first', Options(format='zarr3', box=first))
start = time.perf_counter()
predict_volume(model, volume, output, Options(format='zarr3', box=box))
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print('measured', seconds, peak / (1e6 if sys.platform == 'darwin' else 1e3))
"""


def network_rates(name: str, size: int) -> list[float]:
    """Megavoxels a second of P by views, of untrained weights and one section of `size` squared."""
    config = flagship_config() if name == 'flagship' else get_config()
    if name != 'flagship':
        config.model.name = name
    settings = run_settings(config)
    network = create_model(settings.model, settings.precision)
    infer = create_inference(network, views=1, **settings.inference_options)
    window = np.random.default_rng(0).standard_normal((infer.slices, size, size), np.float32)
    variables = jax.jit(network.init)(jax.random.key(0), window[None, :, :64, :64])
    stretch = range(infer.slices)

    def predict(views: int) -> Any:
        return replace(infer, views=views).prob(variables, window, infer.slices // 2, stretch)

    return [size * size / seconds(partial(predict, views)) / 1e6 for views in VIEWS]


def seconds(function: Callable[[], Any]) -> float:
    """The shortest of three times, after one that compiles."""
    function()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def with_views(model: Model, views: Any) -> Model:
    """The model, whose P is the mean over so many views."""
    evaluate = replace(model.settings.evaluate, views=views)
    return replace(model, settings=replace(model.settings, evaluate=evaluate))


def predict_by_itself(place: str, views: int, volume: Path, box: str) -> tuple[float, float]:
    """Seconds, and peak memory in MB, of a prediction by a process of its own."""
    output = volume.with_name(f'{volume.name}_{box.replace(":", "_").replace(",", "_")}_{views}')
    command = [sys.executable, '-c', _PREDICT, place, str(views), str(volume), str(output), box]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    (line,) = (x for x in done.stdout.splitlines() if x.startswith('measured'))
    taken, peak = (float(x) for x in line.split()[1:])
    return taken, peak


def print_networks(names: Sequence[str], size: int) -> None:
    print(f'P of {size}x{size}, megavoxels/s, by views\n')
    print('| network |', ' | '.join(map(str, VIEWS)), '|')
    print('|---|---|---|')
    for name in names:
        print(f'| {name} |', ' | '.join(f'{x:.3g}' for x in network_rates(name, size)), '|')


def print_shares(place: str, stack: NDArray[np.uint8], folder: Path) -> None:
    print(f'\nA whole prediction of {"x".join(map(str, stack.shape))} by {place}\n')
    print('| views | megavoxels/s | s | the same in memory, s | share |')
    print('|---|---|---|---|---|')
    model, volume = load(place), folder / 'volume'
    write_array(volume, stack, format='zarr3', resolution_nm=model.resolution_nm)
    for views in VIEWS:
        used = with_views(model, views)
        used.predict(stack[:3])  # compiles
        start = time.perf_counter()
        used.predict(stack)
        alone = time.perf_counter() - start
        box = ','.join(f'0:{n}' for n in stack.shape)
        whole, _ = predict_by_itself(place, views, volume, box)
        rate = stack.size / whole / 1e6
        print(f'| {views} | {rate:.3g} | {whole:.1f} | {alone:.1f} | {alone / whole:.0%} |')


def print_memory(
    place: str, stack: NDArray[np.uint8], huge: tuple[int, int, int], folder: Path
) -> None:
    _, height, width = huge
    print(f'\nOf a volume of {"x".join(map(str, huge))}, 1 view\n')
    print('| box | s | peak memory, MB |')
    print('|---|---|---|')
    # The sections over and over, side by side: nothing depends on what is in them.
    sections = np.tile(stack, (1, -(-height // stack.shape[1]), -(-width // stack.shape[2])))
    lazy = LazySections(huge, np.uint8, lambda z, y, x: sections[z % len(sections), y, x])
    resolution_nm = load(place).resolution_nm
    write_array(folder / 'huge', lazy, format='zarr3', resolution_nm=resolution_nm)
    for size in BOXES:
        box = ','.join(f'0:{min(*pair)}' for pair in zip(size, huge, strict=True))
        taken, peak = predict_by_itself(place, 1, folder / 'huge', box)
        print(f'| {box} | {taken:.0f} | {peak:.0f} |')


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--model', default='isbi12', help='as --model and --workdir of predict')
    parser.add_argument('--input', required=True, help='a volume of its kind')
    parser.add_argument('--sections', type=int, help='take so many of the input')
    parser.add_argument('--networks', nargs='*', default=[*MODELS, 'flagship'])
    parser.add_argument('--size', type=int, default=512, help="side of the networks' sections")
    parser.add_argument('--huge', type=int, nargs=3, default=HUGE, help='z, y, x of that volume')
    args = parser.parse_args()
    print_networks(args.networks, args.size)
    stack = as_uint8_image(read_whole(open_array(args.input, 'image')), args.input)
    stack = stack[: args.sections]
    with tempfile.TemporaryDirectory() as folder:
        print_shares(args.model, stack, Path(folder))
        print_memory(args.model, stack, tuple(args.huge), Path(folder))


if __name__ == '__main__':
    with_messages(main)
