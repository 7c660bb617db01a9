"""All scores of a section under their names, their summary, and the threshold to score at."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taclnet_jax.errors import InputError
from taclnet_jax.metrics._arrays import of_one_shape
from taclnet_jax.metrics.betti import betti_error, betti_matching_error
from taclnet_jax.metrics.cremi import cremi_score
from taclnet_jax.metrics.masks import boundary_f, cl_dice, dice
from taclnet_jax.metrics.overlaps import Overlaps
from taclnet_jax.metrics.segments import grow_segments, pieces_of_ids, segment, true_segments


@dataclass(eq=False)
class _Truth:
    """What is known of a section, and how it is to be scored."""

    membrane: NDArray[np.bool_]
    ids: ArrayLike | None
    ignore: ArrayLike | None
    resolution_nm: Sequence[float] | None
    betti: Mapping[str, int]

    @cached_property
    def is_labelled(self) -> bool:
        """Whether it has a cell with a pixel of its own, which is no membrane."""
        return bool(self.segments.any())

    @cached_property
    def segments(self) -> NDArray[np.int32]:
        return true_segments(self.membrane, self.ids, self.ignore)

    @cached_property
    def neurons(self) -> NDArray[np.int32]:
        """The segments as CREMI has them, without membranes between ids."""
        return self.segments if self.ids is None else pieces_of_ids(self.ids, self.ignore)


class _Comparison:
    """A prediction beside the truth. What several scores need is computed once."""

    def __init__(self, prob: ArrayLike, truth: _Truth, threshold: float) -> None:
        prob, _ = of_one_shape(prob, truth.membrane)
        self.truth = truth
        self.segments = segment(prob, threshold, truth.ignore)
        self.membrane = self.segments == 0

    @cached_property
    def overlaps(self) -> Overlaps:
        return Overlaps.of(self.truth.segments, self.segments)

    @cached_property
    def joined(self) -> Overlaps:
        """With all of the predicted membrane as one segment, as scikit-image counts it."""
        return Overlaps.of(self.truth.segments, self.segments + 1)

    @cached_property
    def grown(self) -> NDArray[np.int32]:
        return grow_segments(self.segments)

    @cached_property
    def grown_overlaps(self) -> Overlaps:
        return Overlaps.of(self.truth.segments, self.grown)

    @cached_property
    def voi(self) -> tuple[float, float]:
        return self.overlaps.variation_of_information()

    @cached_property
    def unmatched(self) -> tuple[int, int]:
        return betti_matching_error(self.membrane, self.truth.membrane, self.truth.ignore)

    @cached_property
    def errors(self) -> tuple[int, int]:
        return self.overlaps.false_splits_and_merges()

    def of_membrane(self, score: Callable[..., float], **options: int) -> float:
        return score(self.membrane, self.truth.membrane, self.truth.ignore, **options)

    def of_all_cell(self, score: Callable[..., float]) -> float:
        """What a prediction without any membrane would get."""
        return score(np.ones_like(self.membrane), ~self.truth.membrane, self.truth.ignore)

    def cremi_score(self) -> float:
        if self.truth.resolution_nm is None:
            raise InputError(
                'The CREMI score leaves out a border given in nm: pass resolution_nm=(z, y, x), '
                'or ask for other scores.'
            )
        return cremi_score(self.truth.neurons, self.grown, self.truth.resolution_nm).score


class _Metric(NamedTuple):
    column: str
    higher_is_better: bool
    of: Callable[[_Comparison], float]


_MAIN = {
    'dice': _Metric('DICE', True, lambda c: dice(~c.membrane, ~c.truth.membrane, c.truth.ignore)),
    'dice_membrane': _Metric('DICE membrane', True, lambda c: c.of_membrane(dice)),
    'ari': _Metric('ARI', True, lambda c: c.overlaps.adapted_rand_fscore()),
    'voi': _Metric('VOI', False, lambda c: sum(c.voi)),
    'voi_split': _Metric('VOI split', False, lambda c: c.voi[0]),
    'voi_merge': _Metric('VOI merge', False, lambda c: c.voi[1]),
    'betti_error': _Metric(
        'Betti error', False, lambda c: c.of_membrane(betti_error, **c.truth.betti)
    ),
}
_EXTENDED = {
    'dice_all_cell': _Metric('DICE, all cell', True, lambda c: c.of_all_cell(dice)),
    'boundary_f': _Metric('Boundary F', True, lambda c: c.of_membrane(boundary_f)),
    'ari_joined': _Metric('ARI, joined', True, lambda c: c.joined.adapted_rand_fscore()),
    'voi_joined': _Metric('VOI, joined', False, lambda c: sum(c.joined.variation_of_information())),
    'v_rand': _Metric('V_rand', True, lambda c: c.grown_overlaps.v_rand()),
    'v_info': _Metric('V_info', True, lambda c: c.grown_overlaps.v_info()),
    'cremi_score': _Metric('CREMI score', False, lambda c: c.cremi_score()),
    'cl_dice': _Metric('clDice', True, lambda c: c.of_membrane(cl_dice)),
    'betti_matching_error': _Metric('Betti matching error', False, lambda c: sum(c.unmatched)),
    'betti_matching_error_0': _Metric('Betti matching error 0', False, lambda c: c.unmatched[0]),
    'betti_matching_error_1': _Metric('Betti matching error 1', False, lambda c: c.unmatched[1]),
    'false_splits': _Metric('False splits', False, lambda c: c.errors[0]),
    'false_merges': _Metric('False merges', False, lambda c: c.errors[1]),
}
_METRICS = _MAIN | _EXTENDED

MAIN = tuple(_MAIN)
"""The scores that `section_scores` always gives, in the order of tables."""

EXTENDED = tuple(_EXTENDED)
"""Those that it gives if asked, in the order of tables."""

HIGHER_IS_BETTER = {name: metric.higher_is_better for name, metric in _METRICS.items()}
"""Every score, in the order of tables, and the direction of each."""

COLUMNS = {name: metric.column for name, metric in _METRICS.items()}
"""Every score, in the order of tables, and the title of its column."""


def section_scores(
    prob: ArrayLike,
    membrane: ArrayLike,
    ids: ArrayLike | None = None,
    *,
    threshold: float = 0.5,
    betti_patch: int = 64,
    betti_patches: int = 100,
    seed: int = 0,
    ignore: ArrayLike | None = None,
    extended: bool | Collection[str] = False,
    resolution_nm: Sequence[float] | None = None,
) -> dict[str, float]:
    """The scores of one section by name.

    A section of 512 x 512 takes one core 30 ms for the main scores. Of the extended ones, V_rand
    and V_info take 20 ms together, the CREMI score 40, clDice 20, Betti matching 15, false splits
    and merges next to nothing; all of them together 80.

    Args:
        prob: predicted probability of membrane, `[height, width]`.
        membrane: true membrane, boolean, of the same shape.
        ids: true instance ids (see `true_segments`); without them, the true segments are the
            4-connected components of what is not membrane.
        threshold: a pixel is membrane from this probability on.
        betti_patch: side of the Betti error's patches, pixels.
        betti_patches: number of these patches.
        seed: draws them.
        ignore: True where pixels are not labelled, boolean, of the same shape: what is there, or
            is predicted there, changes no score.
        extended: True gives the scores of `EXTENDED` too, or name some of them.
        resolution_nm: voxel size (z, y, x), which the CREMI score needs.

    Returns:
        `MAIN`: dice (of the cell interior), dice_membrane, ari, voi (= voi_split + voi_merge;
        bits), betti_error (loops in a patch).
        `EXTENDED`: dice_all_cell, the dice of no membrane at all, which says what dice is worth
        here; boundary_f of the membrane, with a tolerance of 2 pixels; ari_joined and voi_joined,
        with all predicted membrane as one segment, where for ari and voi each pixel of it is one;
        v_rand and v_info of ISBI 2012, after the predicted segments have grown until they touch, at
        this threshold (the challenge's is the maximum over thresholds: `best_over_thresholds`);
        cremi_score, of the grown segments too; cl_dice of the membrane; betti_matching_error, in
        dimensions _0 and _1 and as their sum; false_splits, false_merges.
        All are NaN where the truth has no pixel of a cell: nothing was labelled, or all cells are
        so thin that they are membrane, and anything would score.

    Raises:
        InputError: the shapes differ, a name is unknown, or the resolution is missing.

    Example:
        >>> import numpy as np
        >>> wall = np.zeros((8, 8), bool)
        >>> wall[:, 4] = True
        >>> scores = section_scores(np.where(wall, 0.9, 0.1), wall)
        >>> scores['ari'], scores['voi'], scores['betti_error']
        (1.0, 0.0, 0.0)
    """
    if isinstance(extended, bool):
        extended = EXTENDED if extended else ()
    names = dict.fromkeys((*MAIN, *extended))
    for name in names:
        _check_name(name)
    betti = {'patch': betti_patch, 'count': betti_patches, 'seed': seed}
    truth = _Truth(np.asarray(membrane, bool), ids, ignore, resolution_nm, betti)
    comparison = _Comparison(prob, truth, threshold)
    if not truth.is_labelled:
        return dict.fromkeys(names, float('nan'))
    return {name: float(_METRICS[name].of(comparison)) for name in names}


def _check_name(name: str) -> None:
    if name not in _METRICS:
        raise InputError(f'Expected the metric to be one of {", ".join(_METRICS)}; got {name!r}.')


def summarise(scores: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each score over sections.

    The standard deviation is the population's (divided by n): it describes the spread over
    these sections, which are all there are, and is 0 for a single one. Sections without a cell,
    whose scores are NaN, are left out.

    Args:
        scores: one dictionary a section, as of `section_scores`; all with the same keys.

    Returns:
        {key: (mean, standard deviation)}.

    Raises:
        InputError: if there are no sections, or none has a cell.

    Example:
        >>> summarise([{'ari': 0.5}, {'ari': 1.0}])
        {'ari': (0.75, 0.25)}
    """
    scores = [section for section in scores if not np.isnan(list(section.values())).all()]
    if not scores:
        raise InputError('Expected the scores of at least one section with a cell, found none.')
    values = {key: [section[key] for section in scores] for key in scores[0]}
    return {key: (float(np.mean(value)), float(np.std(value))) for key, value in values.items()}


def best_over_thresholds(
    probs: Sequence[ArrayLike],
    membranes: Sequence[ArrayLike],
    ids: Sequence[ArrayLike] | None,
    thresholds: Sequence[float],
    metric: str = 'v_rand',
    ignores: Sequence[ArrayLike] | None = None,
    resolution_nm: Sequence[float] | None = None,
) -> tuple[float, float]:
    """The best mean score at any of some thresholds, which is how ISBI 2012 ranks V_rand, V_info.

    Args:
        probs: predicted probabilities of membrane, `[sections, height, width]` or a list.
        membranes: true membranes, likewise.
        ids: true instance ids, likewise, or None.
        thresholds: to try; the challenge takes 0, 0.1, ..., 1.
        metric: a key of `HIGHER_IS_BETTER`, the Betti error with its default patches.
        ignores: True where pixels are not labelled, likewise, or None.
        resolution_nm: voxel size (z, y, x), which the CREMI score needs.

    Returns:
        (score, threshold), the earliest threshold of those that are equally good. Sections whose
        truth has no cell do not count.

    Raises:
        InputError: if the metric is unknown, or there are no thresholds or no sections with cells.

    Example:
        >>> import numpy as np
        >>> wall = np.zeros((8, 8), bool)
        >>> wall[:, 4] = True
        >>> best_over_thresholds([np.where(wall, 0.4, 0.1)], [wall], None, (0.3, 0.5), 'ari')
        (1.0, 0.3)
    """
    _check_name(metric)
    if not len(thresholds) or not len(probs):
        raise InputError('Choosing a threshold takes at least one threshold and one section.')
    totals, counted = np.zeros(len(thresholds)), 0
    for section, (prob, membrane) in enumerate(zip(probs, membranes, strict=True)):
        truth = _Truth(
            np.asarray(membrane, bool),
            None if ids is None else ids[section],
            None if ignores is None else ignores[section],
            resolution_nm,
            betti={},
        )
        if not truth.is_labelled:
            continue
        counted += 1
        totals += [
            _METRICS[metric].of(_Comparison(prob, truth, threshold)) for threshold in thresholds
        ]
    if not counted:
        raise InputError('Expected at least one section with a cell, found none.')
    best = int(np.argmax(totals) if HIGHER_IS_BETTER[metric] else np.argmin(totals))
    return float(totals[best] / counted), float(thresholds[best])
