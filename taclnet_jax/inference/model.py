"""A trained network with all that its use takes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from taclnet_jax.config import read_settings
from taclnet_jax.config.settings import RunSettings
from taclnet_jax.errors import InputError
from taclnet_jax.inference.cut import Cut, fixed_cuts
from taclnet_jax.inference.sections import Inference, create_inference
from taclnet_jax.metrics.maps import MAPS
from taclnet_jax.models import Network, create_model
from taclnet_jax.training.checkpoints import best_variables


@dataclass(frozen=True)
class Model:
    """A trained network. Before its evaluation `chosen` is empty and `resolution_nm` None."""

    settings: RunSettings  # of the run that trained it
    network: Network
    variables: Any  # its parameters and statistics
    step: int  # updates after which they were taken
    chosen: Mapping[str, Cut]  # by evaluation, by the name of the map (`MAPS`)
    resolution_nm: tuple[float, float, float] | None  # (z, y, x) of its training volume

    @property
    def attends(self) -> bool:
        """Whether it was trained with attention, so that P_hat stands for it rather than P."""
        return self.settings.attention.kind != 'none'

    @property
    def segmented(self) -> str:
        """That of `MAPS` which prediction makes segments of."""
        return 'P_hat_closed' if self.attends else 'P_closed'

    @cached_property
    def inference(self) -> Inference:
        """Its predictions of sections, as the run is evaluated; compiled once."""
        settings = self.settings
        return create_inference(
            self.network, views=settings.evaluate.views, **settings.inference_options
        )

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
                'first with --mode=evaluate.'
            )
        return self.chosen[name]


def load(workdir: str | Path) -> Model:
    """The best network of a run.

    Raises:
        InputError: there is no run, or it has no checkpoint that can be read.
    """
    folder = Path(workdir)
    settings = read_settings(folder)
    step, variables = best_variables(folder)
    network = create_model(settings.model, settings.precision)
    chosen, resolution_nm = _scored(folder / 'results.json')
    return Model(settings, network, variables, step, chosen, resolution_nm)


def _scored(path: Path) -> tuple[dict[str, Cut], tuple[float, float, float] | None]:
    """What evaluation left; nothing where it did not, or its file is damaged."""
    try:
        results = json.loads(path.read_text())
        cuts = {name: Cut(results[name]['threshold'], results[name]['closing']) for name in MAPS}
        z, y, x = results['resolution_nm']
        return cuts, (z, y, x)
    except (OSError, ValueError, KeyError, TypeError):
        return {}, None
