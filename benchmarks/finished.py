"""The network of a finished run on its validation sections, for benchmarks that compare on them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from taclnet_jax import metrics
from taclnet_jax.config.settings import EvaluateSettings
from taclnet_jax.data import load_volume, training_volume
from taclnet_jax.data.normalisation import normalised
from taclnet_jax.data.resolution import doubled
from taclnet_jax.data.volume import Volume
from taclnet_jax.data.windows import split_sections, targets_of
from taclnet_jax.errors import InputError
from taclnet_jax.evaluation.scoring import score
from taclnet_jax.evaluation.thresholds import choose_closing, choose_threshold
from taclnet_jax.inference import Cut, Model, SectionPrediction, load
from taclnet_jax.inference.cut import map_of

# From P of a window, `[slices, height, width]`, to a map of its target.
Attention = Callable[[jax.Array], jax.Array]
Maps = Mapping[int, np.ndarray]

COLUMNS = ('dice', 'ari', 'voi', 'voi_split', 'voi_merge', 'betti_error')
CLOSED_COLUMNS = ('ari', 'voi', 'betti_error')  # after `taclnet_jax.metrics.close_membranes`
HEADER = (*COLUMNS, *(f'{name} closed' for name in CLOSED_COLUMNS), 'threshold')


def target(prob: jax.Array) -> jax.Array:
    """P of a window's target."""
    return prob[prob.shape[0] // 2]


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        model: its best network.
        volume: that it was trained on.
        windows: P of the windows of its validation sections, as the network sees them, by section.
    """

    model: Model
    volume: Volume
    windows: Mapping[int, jax.Array]

    @classmethod
    def load(cls, run: Path, volume: Volume | None = None) -> Finished:
        """Of the run in a folder; the volume, if it is loaded already."""
        model = load(run)
        settings = model.settings
        volume = volume or load_volume(settings.data)
        stretches = split_sections(volume, settings.sampling).validation
        if not stretches:
            raise InputError(f'Expected a run with validation sections; {run} held out none.')
        infer = model.inference
        image = normalised(training_volume(volume, settings.data.downsample).image)
        targets = targets_of(stretches)
        windows = {z: infer(model.variables, image, z, stretch)[0] for z, stretch in targets}
        return cls(model, volume, windows)

    def maps(self, attend: Attention = target) -> dict[int, np.ndarray]:
        """What attention makes of the windows, at the volume's own size, by section."""
        compiled = jax.jit(attend)
        maps = {z: np.asarray(compiled(prob)) for z, prob in self.windows.items()}
        if self.model.settings.data.downsample == 1:
            return maps
        return {z: doubled(x, self.volume.shape[1:]) for z, x in maps.items()}

    def scores(self, maps: Maps, cut: Cut, **changes: int) -> dict[str, float]:
        """Mean scores of maps of the validation sections that are cut so.

        `changes` are of the run's settings of evaluation.
        """
        evaluation = replace(self.model.settings.evaluate, **changes)
        sections = [score(evaluation, self.volume, z, x, cut) for z, x in maps.items()]
        return {name: mean for name, (mean, _) in metrics.summarise(sections).items()}

    def best_cuts(self, maps: Maps) -> tuple[Cut, Cut]:
        """Those of the lowest VOI on the maps, without and with closing."""
        threshold = choose_threshold(self.volume, maps)
        return Cut(threshold), Cut(threshold, choose_closing(self.volume, maps, threshold))

    def row(self, attend: Attention) -> dict[str, float]:
        """Mean scores of what attention makes of the windows, by the names in `HEADER`."""
        maps = self.maps(attend)
        cuts = self.best_cuts(maps)
        plain, closed = (self.scores(maps, cut) for cut in cuts)
        scores = {name: plain[name] for name in COLUMNS}
        scores |= {f'{name} closed': closed[name] for name in CLOSED_COLUMNS}
        return scores | {'threshold': cuts[0].threshold}


def mean_scores(
    evaluation: EvaluateSettings,
    volume: Volume,
    predicted: Iterable[SectionPrediction],
    cuts: Mapping[str, Cut],
) -> dict[str, dict[str, float]]:
    """Mean scores of sections, each cut in all ways, by the name of the map."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cuts}
    for one in predicted:
        for name, cut in cuts.items():
            found[name].append(score(evaluation, volume, one.section, map_of(one, name), cut))
    return {
        name: {key: mean for key, (mean, _) in metrics.summarise(sections).items()}
        for name, sections in found.items()
    }


def parser_of_run(description: str | None) -> argparse.ArgumentParser:
    """With the flag --run, the folder of a finished run."""
    parser = argparse.ArgumentParser(description=(description or '').splitlines()[0])
    parser.add_argument('--run', type=Path, required=True, help='folder of a finished run')
    return parser
