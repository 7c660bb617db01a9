"""Whether a volume may have been saved as `[x, y, z]`."""

import logging

from taclnet_jax.errors import InputError

_LOGGER = logging.getLogger(__name__)
_SLAB = 4  # EM stacks are thinner than wide; an axis this many times shorter is a stack's depth
_ANISOTROPIC = 1.5


def check_axis_order(
    shape: tuple[int, ...], resolution_nm: tuple[float, float, float] | None, name: str
) -> None:
    """Says so where the axes look like `[x, y, z]`, as in (1250, 1250, 125).

    A wrong order would train on sections cut across the tissue without any other sign. A last axis
    of at most a quarter of both others gives a warning, for a narrow strip is legitimate. It is an
    error where the voxels are not cubes, too, and the first axis is no shorter than half the
    second: as a volume that is a column many times taller than wide, turned an ordinary block.
    Isotropic volumes (FIB-SEM) are never refused. Who does have such a column swaps y and x, which
    changes nothing for a network.

    Args:
        shape: (sections, height, width), as read.
        resolution_nm: voxel size (z, y, x) in nm, None if unknown.
        name: of the volume, for the message.

    Raises:
        InputError: the order is all but certainly wrong.
    """
    depth, height, width = shape
    slab = _SLAB * width <= min(depth, height)
    z_nm, _, x_nm = resolution_nm or (1.0, 1.0, 1.0)
    anisotropic = max(z_nm, x_nm) >= _ANISOTROPIC * min(z_nm, x_nm)
    if slab and anisotropic and 2 * depth >= height:
        raise InputError(
            f'Expected {name} in the order [z, y, x], found the shape {shape} with voxels of '
            f'{resolution_nm} nm: {depth} sections only {width} pixels wide look like [x, y, z]. '
            'Turn the axes round; if the volume really is that narrow, swap y and x.'
        )
    if slab:
        _LOGGER.warning(
            f'{name}: the shape {shape} is read as [z, y, x], {depth} sections of {height} x '
            f'{width} pixels; if it was saved as [x, y, z], turn the axes round.'
        )
    elif x_nm >= _ANISOTROPIC * z_nm:
        _LOGGER.warning(
            f'{name}: the voxel size {resolution_nm} nm is read as (z, y, x), so that pixels are '
            'wider than sections are thick; if it was given as (x, y, z), turn it round.'
        )
