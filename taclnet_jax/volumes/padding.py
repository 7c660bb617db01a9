"""What is around tissue and is none: padding, gaps of a mosaic, lost lines."""

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

# Tissue is never of one grey value over such a square, or along such a line of pixels.
_SQUARE_PX = 9
_LINE_PX = 257


def flat(section: np.ndarray) -> np.ndarray:
    """Where a section, or a part of one, is padding.

    It is of one value over 9 x 9 pixels, or along a line of 257 in a row or a column, or of half
    the section where that is less. No pixel of ISBI12 or SNEMI3D lies on such a line. Sections of
    less than 9 pixels have none.
    """
    found = np.zeros(section.shape, bool)
    if min(section.shape) < _SQUARE_PX:
        return found
    down, across = (min(_LINE_PX, max(side // 2, _SQUARE_PX)) for side in section.shape)
    for shape in ((_SQUARE_PX, _SQUARE_PX), (1, across), (down, 1)):
        # Beyond the border is what lies at it: squares may be cut by it.
        middle = maximum_filter(section, shape) == minimum_filter(section, shape)
        if middle.any():
            found |= maximum_filter(middle, shape)
    return found
