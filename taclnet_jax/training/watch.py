"""Whether a training goes well: steps without a finite loss, and a loss that says nothing."""

from collections import deque
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import Samples
from taclnet_jax.errors import InputError
from taclnet_jax.losses import Loss
from taclnet_jax.training import parallel
from taclnet_jax.training.objective import Arrays
from taclnet_jax.training.state import EpochLoss

SKIPPED_IN_A_ROW = 20
"""Steps without a finite loss and gradient that end a run."""


class Watch:
    """The last losses, one step late: waiting for the current one would keep the device idle.

    Args:
        samples: what sample ids stand for.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._pending: tuple[int, Arrays, np.ndarray] | None = None
        self.stop = False  # whether any process was told to; all learn it from the same step
        self._last: deque[float] = deque(maxlen=20)
        self._skipped = 0

    @property
    def mean(self) -> float:
        """Of the last updates."""
        return sum(self._last) / len(self._last) if self._last else float('nan')

    def see(self, step: int, output: Arrays, sample_id: np.ndarray) -> None:
        """Takes a step's output, as `create_step` makes it, and looks at the one before.

        Raises:
            InputError: that one was the last of too many skipped in a row.
        """
        self.wait()
        self._pending = step, output, sample_id

    def wait(self) -> None:
        """Looks at the last step, too; raises likewise."""
        if self._pending is None:
            return
        step, output, sample_id = self._pending
        self._pending = None
        loss = float(parallel.unreplicate(output['loss']))
        self.stop = 'stop' in output and bool(parallel.unreplicate(output['stop']))
        if np.isfinite(loss):
            self._last.append(loss)
            self._skipped = 0
            return
        self._skipped += 1
        if self._skipped == SKIPPED_IN_A_ROW:
            s = self._samples
            crops = (f'({s.section[i]}, {s.y[i]}, {s.x[i]})' for i in np.unique(sample_id))
            raise InputError(
                f'Expected finite losses and gradients, found none in {SKIPPED_IN_A_ROW} steps in '
                f'a row; the last one, step {step}, had the crops (section, y, x) '
                f'{", ".join(crops)}. Look at image and labels there, or lower the learning rate.'
            )


def warning_of(losses: EpochLoss, epoch: int, constant: float) -> str:
    """What to say of an epoch; '' where its mean loss is below that of a constant.

    Args:
        losses: of that epoch, on the host.
        epoch: its number, from 1.
        constant: of `constant_loss`.
    """
    if losses.updates == 0:
        return f'Epoch {epoch} had no step with a finite loss: nothing was learnt in it.'
    if losses.mean < constant:
        return ''
    return (
        f'The loss of epoch {epoch}, {losses.mean:.4f}, is not below {constant:.4f}, that of the '
        'same probability everywhere: see docs/troubleshooting.md, Results that look wrong.'
    )


def constant_loss(loss_fn: Loss, volume: Volume, samples: Samples) -> float:
    """The loss of predicting the training targets' mean everywhere, which takes no image."""

    assert volume.membrane is not None
    membranes, ignore = volume.membrane, volume.ignore

    def targets() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for z in np.unique(samples.section).tolist():
            membrane = membranes[z]
            valid = np.ones(membrane.shape, bool) if ignore is None else ~ignore[z]
            yield membrane.astype(np.float32), valid

    sums = np.sum([(m[valid].sum(dtype=float), valid.sum()) for m, valid in targets()], axis=0)
    mean = sums[0] / sums[1]
    total = 0.0
    for membrane, valid in targets():
        prob = jnp.full(membrane.shape, mean, jnp.float32)
        total += float(loss_fn(prob, jnp.asarray(membrane), jnp.asarray(valid))) * valid.sum()
    return float(total / sums[1])
