"""The networks of this package in PyTorch, for comparison: the same layers, sizes and step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, conv2d, pad

from taclnet_jax.data.loader import Batch

Sections = list[torch.Tensor]
"""Of a window, `[batch, channels, height, width]` each."""


class ConvLSTMLayer(nn.Module):
    """`taclnet_jax.models.convlstm.ConvLSTMLayer`."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = nn.Conv2d(channels + features, 4 * features, 3, padding=1)

    def forward(self, sections: Sections) -> Sections:
        cell = hidden = None
        outputs = []
        for x in sections:
            if cell is None:  # No state yet, so nothing of it to convolve.
                weight = self.gates.weight[:, : self.channels]
                gates = conv2d(x, weight, self.gates.bias, padding=1)
            else:
                gates = self.gates(torch.cat([x, hidden], 1))
            i, g, f, o = gates.chunk(4, 1)
            new = torch.sigmoid(i) * torch.tanh(g)
            cell = new if cell is None else torch.sigmoid(f + 1) * cell + new
            hidden = torch.sigmoid(o) * torch.tanh(cell)
            outputs.append(hidden)
        return outputs


class ConvLSTM(nn.Module):
    """`taclnet_jax.models.convlstm.ConvLSTM`."""

    def __init__(self, slices: int) -> None:
        super().__init__()
        sizes = [(1, 16), (16, 8), (8, slices)]
        self.layers = nn.ModuleList(ConvLSTMLayer(*channels) for channels in sizes)
        self.maps = nn.Conv2d(slices, slices, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        sections = list(image.split(1, 1))
        for layer in self.layers:
            sections = layer(sections)
        return self.maps(sections[-1])


def block(channels: int, features: int) -> nn.Module:
    """`taclnet_jax.models.layers.Block`."""
    first, second = (nn.Conv2d(c, features, 3, padding=1) for c in (channels, features))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class RecurrentUNet(nn.Module):
    """`taclnet_jax.models.recurrent_unet.RecurrentUNet`."""

    def __init__(self, slices: int, features: Sequence[int] = (16, 32, 64, 96)) -> None:
        super().__init__()
        *levels, deepest = features
        self.down = nn.ModuleList(block(*c) for c in zip((1, *levels), levels, strict=False))
        self.deepest = block(levels[-1], deepest)
        half = deepest // 2
        self.forwards = ConvLSTMLayer(deepest, half)
        self.backwards = ConvLSTMLayer(deepest, deepest - half)
        up = list(zip((deepest, *levels[::-1]), levels[::-1], strict=False))
        self.doubled = nn.ModuleList(nn.ConvTranspose2d(*c, 2, stride=2) for c in up)
        self.up = nn.ModuleList(block(2 * c, c) for _, c in up)
        self.logits = nn.Conv2d(levels[0], 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        batch, slices, height, width = image.shape
        stride = 2 ** len(self.down)
        x = image.reshape(-1, 1, height, width)
        x = pad(x, (0, -width % stride, 0, -height % stride), mode='reflect')
        levels = []
        for level in self.down:
            levels.append(level(x))
            x = nn.functional.max_pool2d(levels[-1], 2)
        x = self.deepest(x)
        windows = x.reshape(batch, slices, *x.shape[1:])
        sections = list(windows.unbind(1))
        later, earlier = self.forwards(sections), self.backwards(sections[::-1])[::-1]
        met = [torch.cat(both, 1) for both in zip(later, earlier, strict=True)]
        x = x + torch.stack(met, 1).reshape(x.shape)
        for doubled, level, kept in zip(self.doubled, self.up, levels[::-1], strict=True):
            x = level(torch.cat([kept, doubled(x)], 1))
        return self.logits(x)[:, 0, :height, :width].reshape(image.shape)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    'convlstm': ConvLSTM,
    'recurrent_unet': RecurrentUNet,
}
"""By their names in `taclnet_jax.models.MODELS`."""


def torch_step(
    batch: Batch,
    network: str = 'convlstm',
    device: str = 'cpu',
    precision: str = 'float32',
    compiled: bool = False,
) -> Callable[[], None]:
    """A training step without attention as a function that waits for its end.

    Args:
        batch: of the loader.
        network: one of `NETWORKS`.
        device: 'cpu' or 'cuda'.
        precision: of the network's arithmetic, 'float32' or 'bfloat16'.
        compiled: by `torch.compile`, with channels last in memory.
    """
    torch.set_float32_matmul_precision('high')  # TF32, which JAX takes by default, too
    slices = batch['image'].shape[1]
    order = torch.channels_last if compiled else torch.contiguous_format
    model = NETWORKS[network](slices).to(device, memory_format=order)
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3, alpha=0.99)
    image, membrane = (
        torch.tensor(batch[key], dtype=torch.float32, device=device)
        for key in ('image', 'membrane')
    )
    target = slices // 2

    def arithmetic() -> contextlib.AbstractContextManager[object]:
        if precision == 'float32':
            return contextlib.nullcontext()
        return torch.autocast(device, torch.bfloat16)

    def loss_of(image: torch.Tensor, membrane: torch.Tensor) -> torch.Tensor:
        with arithmetic():
            logits = model(image)
        return binary_cross_entropy_with_logits(logits[:, target].float(), membrane[:, target])

    loss_fn = torch.compile(loss_of) if compiled else loss_of

    def run() -> None:
        optimizer.zero_grad()
        loss_fn(image, membrane).backward()
        optimizer.step()
        if device == 'cuda':
            torch.cuda.synchronize()

    return run
