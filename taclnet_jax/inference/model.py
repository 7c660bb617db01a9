"""A trained network with all that its use takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from taclnet_jax.config.settings import RunSettings
from taclnet_jax.data.windows import targets_of
from taclnet_jax.errors import InputError
from taclnet_jax.inference.cut import Cut, fixed_cuts
from taclnet_jax.inference.sections import Inference, create_inference, predict_sections
from taclnet_jax.models import Network
from taclnet_jax.volumes import as_uint8_image

SEGMENTED = 'P_hat_closed'
"""That of `MAPS` which prediction makes segments of, whether or not attention was trained: it has
no parameters, and lets a higher threshold through (docs/findings.md, What a cut does)."""


@dataclass(frozen=True)
class Model:
    """A trained network. Before its evaluation `chosen` is empty and `resolution_nm` None."""

    settings: RunSettings  # of the run that trained it
    network: Network
    variables: Any  # its parameters and statistics
    step: int  # updates after which they were taken
    chosen: Mapping[str, Cut]  # by evaluation, by the name of the map (`MAPS`)
    resolution_nm: tuple[float, float, float] | None  # (z, y, x) of its training volume
    place: Path = Path()  # folder that it was read from

    def __repr__(self) -> str:
        return (
            f'<Model {self.place}: {self.settings.model.name} of {self.parameter_count:,} '
            f'parameters, trained on {self.settings.data.dataset} for {self.step:,} updates>'
        )

    @property
    def parameter_count(self) -> int:
        """Numbers that training has found, without running statistics."""
        return sum(x.size for x in jax.tree.leaves(self.variables['params']))

    @cached_property
    def inference(self) -> Inference:
        """Its predictions of sections, as the run is evaluated; compiled once."""
        settings = self.settings
        return create_inference(
            self.network, views=settings.evaluate.views, **settings.inference_options
        )

    def predict(self, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Membranes and segments of a stack in memory.

        Args:
            image: `[z, y, x]` of NumPy or JAX, at least as many sections as the network sees
                together; uint8, uint16 (stretched over the stack) or floats in [0, 1].

        Returns:
            'membrane' (P), 'attention' (o) and 'refined' (P_hat), float32 in [0, 1]; 'segments',
            int32, 0 = membrane, numbered through all sections, each of which ends at its own.

        Raises:
            InputError: another type, shape, or too few sections, or the cuts were not chosen yet.
        """
        masked = isinstance(image, np.ma.MaskedArray)
        stack = np.asarray(image) if hasattr(image, '__array__') and not masked else None
        if stack is None or stack.ndim != 3 or not stack.size:
            shape = f' of shape {image.shape}' if hasattr(image, 'shape') else ''
            raise InputError(
                f'Expected a NumPy array [z, y, x], found {type(image).__name__}{shape}. Files '
                'are predicted by predict_volume, see docs/volumes.md.'
            )
        stack = as_uint8_image(stack, 'given')
        cut = self.cut(SEGMENTED)
        membrane, attention, refined = np.empty((3, *stack.shape), np.float32)
        segments, count = np.zeros(stack.shape, np.int32), 0
        targets = targets_of([range(len(stack))])
        for found in predict_sections(self.inference, self.variables, stack, targets):
            z = found.section
            membrane[z], attention[z], refined[z] = found.prob, found.attention, found.refined
            pieces = cut.segments(found.refined)
            segments[z] = np.where(pieces > 0, pieces + count, 0)
            count += int(pieces.max())
        return {
            'membrane': membrane,
            'attention': attention,
            'refined': refined,
            'segments': segments,
        }

    def voxel_size(self) -> tuple[float, float, float]:
        """Of what it was trained on, (z, y, x) in nm.

        Raises:
            InputError: it is not known.
        """
        if self.resolution_nm is None:
            raise InputError(
                f'Expected the voxel size of what {self.place} was trained on, found none; '
                'evaluate the run first with --mode=evaluate.'
            )
        return self.resolution_nm

    def cut(self, name: str) -> Cut:
        """How one of `MAPS` becomes membrane: by the fixed threshold, or as evaluation chose.

        Raises:
            InputError: it was not chosen yet.
        """
        evaluation = self.settings.evaluate
        if evaluation.threshold_from == 'fixed':
            return fixed_cuts(evaluation.threshold)[name]
        if name not in self.chosen:
            raise InputError(
                'Expected the threshold that evaluation chooses, found none; evaluate the run '
                'first with --mode=evaluate, or, where nothing was held out, give one with '
                '--config and --config.evaluate.threshold_from=fixed.'
            )
        return self.chosen[name]
