"""A trained network with all that its use takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn

from taclnet_jax.config import RunSettings, read_settings
from taclnet_jax.errors import InputError
from taclnet_jax.inference.cut import MAPS, Cut, fixed_cuts
from taclnet_jax.inference.sections import Inference, create_inference
from taclnet_jax.models import create_model
from taclnet_jax.training.checkpoints import best_params


@dataclass(frozen=True)
class Model:
    """A trained network.

    Attributes:
        settings: of the run that trained it.
        network: maps windows to logits.
        params: its parameters.
        step: updates after which they were taken.
        cuts: how its maps become membrane, by the name of the map (`MAPS`); empty as long as
            evaluation has not chosen them.
        resolution_nm: (z, y, x) of the volume that it was trained on; None as long as evaluation
            has not written it down.
    """

    settings: RunSettings
    network: nn.Module
    params: Any
    step: int
    cuts: Mapping[str, Cut]
    resolution_nm: tuple[float, float, float] | None

    @property
    def attends(self) -> bool:
        """Whether it was trained with attention, so that P_hat stands for it rather than P."""
        return self.settings.attention.kind != 'none'

    def inference(self) -> Inference:
        """Its predictions of sections, as the run is evaluated."""
        settings = self.settings
        return create_inference(
            self.network, views=settings.evaluate.views, **settings.inference_options
        )

    def cut(self, name: str) -> Cut:
        """That of one of `MAPS`.

        Raises:
            InputError: it was not chosen yet.
        """
        if name not in self.cuts:
            raise InputError(
                'Expected the threshold that evaluation chooses, found none; evaluate the run '
                'first with --mode=evaluate.'
            )
        return self.cuts[name]


def load(workdir: str | Path, settings: RunSettings | None = None) -> Model:
    """The best network of a run.

    Args:
        workdir: of the run.
        settings: of the run with what may differ from its config.json; that by default.

    Raises:
        InputError: there is no run, or it has no checkpoint that can be read.
    """
    folder = Path(workdir)
    settings = settings or read_settings(folder)
    step, params = best_params(folder)
    network = create_model(settings.model, settings.precision)
    cuts, resolution_nm = _scored(folder / 'results.json')
    if settings.evaluate.threshold_from == 'fixed':
        cuts = fixed_cuts(settings.evaluate.threshold)
    return Model(settings, network, params, step, cuts, resolution_nm)


def _scored(path: Path) -> tuple[dict[str, Cut], tuple[float, float, float] | None]:
    """What evaluation left; nothing where it did not, or its file is damaged."""
    try:
        results = json.loads(path.read_text())
        cuts = {name: Cut(results[name]['threshold'], results[name]['closing']) for name in MAPS}
        z, y, x = results['resolution_nm']
        return cuts, (z, y, x)
    except (OSError, ValueError, KeyError, TypeError):
        return {}, None
