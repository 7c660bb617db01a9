"""One training step: plain ConvLSTM, with STA and ITA, and the plain one in PyTorch.

    python -m benchmarks.step            (PyTorch: pip install -e '.[benchmark]')

All three take turns in one process, on the same cores, so that the ratios mean something.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import numpy as np

from taclnet_jax.config import get_config
from taclnet_jax.data.loader import Batch
from taclnet_jax.training import parallel
from taclnet_jax.training.setup import Training, prepare


def training_of(kind: str, slices: int, batch: int, crop: int) -> Training:
    """A training of the default network with `kind` of attention, on the synthetic volume."""
    config = get_config()
    config.attention.kind = kind
    config.slices, config.batch_size, config.crop = slices, batch, (crop, crop)
    # One crop a section; fold 3 trains on two thirds of them.
    config.validation_sections = 0
    config.synthetic.shape = (max(3 * batch // 2 + 1, 3 * slices), crop, crop)
    return prepare(config)


def jax_step(training: Training) -> Callable[[], None]:
    """A step of phase two as a function that waits for its end."""
    step, state = training.create_step(phase_two=True), [training.new.to_devices()]
    batch = training.loader.batch(0, 0)

    def run() -> None:
        state[0], output = step(state[0], parallel.shard(batch))
        jax.block_until_ready(output)

    return run


def torch_step(batch: Batch) -> Callable[[], None]:
    """The plain step in PyTorch."""
    import torch
    from torch import nn

    class Layer(nn.Module):
        def __init__(self, channels: int, features: int) -> None:
            super().__init__()
            self.features = features
            self.gates = nn.Conv2d(channels + features, 4 * features, 3, padding=1)

        def forward(self, sections: list) -> list:
            n, _, height, width = sections[0].shape
            cell = hidden = torch.zeros(n, self.features, height, width)
            outputs = []
            for x in sections:
                i, g, f, o = self.gates(torch.cat([x, hidden], 1)).chunk(4, 1)
                cell = torch.sigmoid(f + 1) * cell + torch.sigmoid(i) * torch.tanh(g)
                hidden = torch.sigmoid(o) * torch.tanh(cell)
                outputs.append(hidden)
            return outputs

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Layer(1, 16), Layer(16, 8), Layer(8, slices)])
            self.maps = nn.Conv2d(slices, slices, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            sections = list(image.split(1, 1))
            for layer in self.layers:
                sections = layer(sections)
            return self.maps(sections[-1])

    slices = batch['image'].shape[1]
    network = Network()
    optimizer = torch.optim.RMSprop(network.parameters(), 1e-3, alpha=0.99)
    image, membrane = (
        torch.tensor(batch[key], dtype=torch.float32) for key in ('image', 'membrane')
    )
    target = slices // 2

    def run() -> None:
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(
            network(image)[:, target], membrane[:, target]
        )
        loss.backward()
        optimizer.step()

    return run


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--slices', type=int, default=3)
    parser.add_argument('--batch', type=int, default=10)
    parser.add_argument('--crop', type=int, default=156)
    parser.add_argument('--repeats', type=int, default=15)
    args = parser.parse_args()
    trainings = {
        name: training_of(kind, args.slices, args.batch, args.crop)
        for name, kind in (
            ('ConvLSTM', 'none'),
            ('ConvLSTM + STA', 'sta'),
            ('TACLNet (STA and ITA)', 'ita'),
        )
    }
    steps = {name: jax_step(training) for name, training in trainings.items()}
    try:
        steps['ConvLSTM in PyTorch'] = torch_step(trainings['ConvLSTM'].loader.batch(0, 0))
    except ImportError:
        print('PyTorch is not installed; its row is left out.')
    for step in steps.values():
        step()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    plain = np.median(seconds['ConvLSTM'])
    print(f'\n{args.batch} windows of {args.slices} x {args.crop} x {args.crop}, {jax.devices()}')
    print('| step | median ms | fastest ms | median / plain |\n|---|---|---|---|')
    for name, values in seconds.items():
        median, fastest = np.median(values) * 1e3, min(values) * 1e3
        print(f'| {name} | {median:.0f} | {fastest:.0f} | {median / plain / 1e3:.2f} |')


if __name__ == '__main__':
    main()
