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
        """Logits `[1, batch, slices, height, width]`."""
        sections = list(image.split(1, 1))
        for layer in self.layers:
            sections = layer(sections)
        return self.maps(sections[-1])[None]


class Block(nn.Module):
    """`taclnet_jax.models.layers.Block`, normalised, with statistics for each iteration."""

    def __init__(self, channels: int, features: int, iterations: int) -> None:
        super().__init__()
        sizes = ((channels, features), (features, features))
        self.convolutions = nn.ModuleList(nn.Conv2d(*c, 3, padding=1, bias=False) for c in sizes)
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(features, momentum=0.02) for _ in sizes)
            for _ in range(iterations)
        )

    def forward(self, x: torch.Tensor, iteration: int) -> torch.Tensor:
        for convolution, norm in zip(self.convolutions, self.norms[iteration], strict=True):
            x = torch.relu(norm(convolution(x)))
        return x


class UNet(nn.Module):
    """`taclnet_jax.models.unet.UNet`, normalised."""

    def __init__(
        self, slices: int, features: Sequence[int] = (16, 32, 64, 128, 256), iterations: int = 1
    ) -> None:
        super().__init__()
        self.iterations = iterations
        *levels, deepest = features
        pairs = zip((min(iterations, 2), *levels), levels, strict=False)
        self.down = nn.ModuleList(Block(*c, iterations) for c in pairs)
        self.deepest = Block(levels[-1], deepest, iterations)
        up = list(zip((deepest, *levels[::-1]), levels[::-1], strict=False))
        self.doubled = nn.ModuleList(nn.ConvTranspose2d(*c, 2, stride=2) for c in up)
        self.up = nn.ModuleList(Block(2 * c, c, iterations) for _, c in up)
        self.logits = nn.Conv2d(levels[0], 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of all iterations, `[iterations, batch, slices, height, width]`."""
        if self.iterations == 1:
            return self.once(image[:, :, None], 0)[None]
        logits, prob = [], torch.zeros_like(image)
        for iteration in range(self.iterations):
            logits.append(self.once(torch.stack([image, prob], 2), iteration))
            prob = torch.sigmoid(logits[-1])
        return torch.stack(logits)

    def once(self, windows: torch.Tensor, iteration: int) -> torch.Tensor:
        batch, slices, channels, height, width = windows.shape
        stride = 2 ** len(self.down)
        x = windows.reshape(-1, channels, height, width)
        x = pad(x, (0, -width % stride, 0, -height % stride), mode='reflect')
        levels = []
        for level in self.down:
            levels.append(level(x, iteration))
            x = nn.functional.max_pool2d(levels[-1], 2)
        x = self.across(self.deepest(x, iteration), slices)
        for doubled, level, kept in zip(self.doubled, self.up, levels[::-1], strict=True):
            x = level(torch.cat([kept, doubled(x)], 1), iteration)
        return self.logits(x)[:, 0, :height, :width].reshape(batch, slices, height, width)

    def across(self, x: torch.Tensor, slices: int) -> torch.Tensor:
        return x


class Flagship(UNet):
    """`taclnet_jax.models.recurrent_unet.RecurrentUNet` as `flagship_config` has it."""

    def __init__(
        self, slices: int, features: Sequence[int] = (16, 32, 64, 96, 128), iterations: int = 2
    ) -> None:
        super().__init__(slices, features, iterations)
        half = features[-1] // 2
        self.forwards = ConvLSTMLayer(features[-1], half)
        self.backwards = ConvLSTMLayer(features[-1], features[-1] - half)

    def across(self, x: torch.Tensor, slices: int) -> torch.Tensor:
        sections = list(x.reshape(-1, slices, *x.shape[1:]).unbind(1))
        later, earlier = self.forwards(sections), self.backwards(sections[::-1])[::-1]
        met = [torch.cat(both, 1) for both in zip(later, earlier, strict=True)]
        return x + torch.stack(met, 1).reshape(x.shape)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    'convlstm': ConvLSTM,
    'unet': UNet,
    'flagship': Flagship,
}
"""By their names in `benchmarks.step.cases`."""


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
        losses = [
            k * binary_cross_entropy_with_logits(one[:, target].float(), membrane[:, target])
            for k, one in enumerate(logits, 1)
        ]
        return sum(losses) / sum(range(1, len(losses) + 1))

    loss_fn = torch.compile(loss_of) if compiled else loss_of

    def run() -> None:
        optimizer.zero_grad()
        loss_fn(image, membrane).backward()
        optimizer.step()
        if device == 'cuda':
            torch.cuda.synchronize()

    return run


def torch_prediction(
    batch: Batch, network: str = 'convlstm', compiled: bool = False
) -> Callable[[], None]:
    """P of a batch on the CPU, float32; see `torch_step`."""
    order = torch.channels_last if compiled else torch.contiguous_format
    model = NETWORKS[network](batch['image'].shape[1]).to(memory_format=order).eval()
    image = torch.tensor(batch['image'], dtype=torch.float32)

    def predict(image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(model(image)[-1])

    function = torch.compile(predict) if compiled else predict

    def run() -> None:
        with torch.inference_mode():
            function(image)

    return run
