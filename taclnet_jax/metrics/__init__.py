"""How well a membrane probability segments a section, in all the numbers that the field reports.

`section_scores` gives them by name; the rest of this package are the single scores, for arrays of
one section `[height, width]` unless they say otherwise. Means are taken over sections afterwards.
A segmentation is an integer array, one number a segment, 0 = membrane.

The adapted Rand F-score and the variation of information follow the scoring of the ISBI 2012 and
SNEMI3D challenges (Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142) in both choices
that are easily made differently:

* Pixels of the **true** membrane are left out ("foreground-restricted"): nobody can say to which
  cell they belong.
* Each pixel of **predicted** membrane inside a true cell is a segment of its own. So a membrane
  drawn too thick is a split, which it is, and never joins cells: the merge error is 0 as long as
  no segment touches two cells. scikit-image takes all predicted 0s as one segment that spans the
  whole section, which reports merges where there are none. The functions here equal its
  functions once every predicted 0 has a number of its own.
"""

from taclnet_jax.metrics.betti import betti_error, betti_matching_error
from taclnet_jax.metrics.cremi import CremiScore, border_mask, cremi_score
from taclnet_jax.metrics.masks import cl_dice, dice
from taclnet_jax.metrics.overlaps import (
    adapted_rand_fscore,
    false_splits_and_merges,
    v_info,
    v_rand,
    variation_of_information,
)
from taclnet_jax.metrics.section import (
    COLUMNS,
    EXTENDED,
    HIGHER_IS_BETTER,
    MAIN,
    best_over_thresholds,
    section_scores,
    summarise,
)
from taclnet_jax.metrics.segments import (
    close_membranes,
    grow_segments,
    pieces_of_ids,
    segment,
    true_segments,
    watershed_segments,
)

__all__ = [
    'COLUMNS',
    'EXTENDED',
    'HIGHER_IS_BETTER',
    'MAIN',
    'CremiScore',
    'adapted_rand_fscore',
    'best_over_thresholds',
    'betti_error',
    'betti_matching_error',
    'border_mask',
    'cl_dice',
    'close_membranes',
    'cremi_score',
    'dice',
    'false_splits_and_merges',
    'grow_segments',
    'pieces_of_ids',
    'section_scores',
    'segment',
    'summarise',
    'true_segments',
    'v_info',
    'v_rand',
    'variation_of_information',
    'watershed_segments',
]
