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

from taclnet_jax.metrics.betti import betti_error as betti_error
from taclnet_jax.metrics.betti import betti_matching_error as betti_matching_error
from taclnet_jax.metrics.cremi import CremiScore as CremiScore
from taclnet_jax.metrics.cremi import border_mask as border_mask
from taclnet_jax.metrics.cremi import cremi_score as cremi_score
from taclnet_jax.metrics.masks import boundary_f as boundary_f
from taclnet_jax.metrics.masks import cl_dice as cl_dice
from taclnet_jax.metrics.masks import dice as dice
from taclnet_jax.metrics.overlaps import adapted_rand_fscore as adapted_rand_fscore
from taclnet_jax.metrics.overlaps import false_splits_and_merges as false_splits_and_merges
from taclnet_jax.metrics.overlaps import v_info as v_info
from taclnet_jax.metrics.overlaps import v_rand as v_rand
from taclnet_jax.metrics.overlaps import variation_of_information as variation_of_information
from taclnet_jax.metrics.section import COLUMNS as COLUMNS
from taclnet_jax.metrics.section import EXTENDED as EXTENDED
from taclnet_jax.metrics.section import HIGHER_IS_BETTER as HIGHER_IS_BETTER
from taclnet_jax.metrics.section import MAIN as MAIN
from taclnet_jax.metrics.section import best_over_thresholds as best_over_thresholds
from taclnet_jax.metrics.section import section_scores as section_scores
from taclnet_jax.metrics.section import summarise as summarise
from taclnet_jax.metrics.segments import close_membranes as close_membranes
from taclnet_jax.metrics.segments import grow_segments as grow_segments
from taclnet_jax.metrics.segments import pieces_of_ids as pieces_of_ids
from taclnet_jax.metrics.segments import segment as segment
from taclnet_jax.metrics.segments import true_segments as true_segments
from taclnet_jax.metrics.segments import watershed_segments as watershed_segments
