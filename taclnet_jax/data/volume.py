"""One EM volume in memory: image, labels and voxel size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from taclnet_jax.errors import InputError


@dataclass(frozen=True, eq=False)
class Volume:
    """Sections of tissue with what is known about them.

    Attributes:
        name: the data set, for messages and file names.
        image: `[z, y, x]` uint8.
        membrane: `[z, y, x]` bool, True = membrane; None without labels.
        ids: `[z, y, x]` integer instance ids, 0 = none; None where only membranes are labelled.
        resolution_nm: voxel size (z, y, x) in nm.

    Raises:
        InputError: labels of another size than the image, wrong types or a voxel size of 0.
    """

    name: str
    image: np.ndarray
    membrane: np.ndarray | None
    ids: np.ndarray | None
    resolution_nm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.dtype != np.uint8:
            raise InputError(
                f'{self.name}: expected the image as uint8 [z, y, x], found {self.image.dtype} of '
                f'shape {self.image.shape}.'
            )
        if 0 in self.image.shape:
            raise InputError(f'{self.name}: the image is empty (shape {self.image.shape}).')
        for what, labels in (('membrane labels', self.membrane), ('instance ids', self.ids)):
            if labels is not None and labels.shape != self.image.shape:
                raise InputError(
                    f'{self.name}: image {self.image.shape} and {what} {labels.shape} differ in '
                    'size [z, y, x]; give the two stacks of the same region.'
                )
        if self.membrane is not None and self.membrane.dtype != bool:
            raise InputError(
                f'{self.name}: expected membrane labels as booleans, found {self.membrane.dtype}.'
            )
        if self.ids is not None and not np.issubdtype(self.ids.dtype, np.integer):
            raise InputError(f'{self.name}: expected integer ids, found {self.ids.dtype}.')
        if len(self.resolution_nm) != 3 or not all(0 < nm < np.inf for nm in self.resolution_nm):
            raise InputError(
                f'{self.name}: expected a voxel size (z, y, x) in nm above 0, found '
                f'{tuple(self.resolution_nm)}.'
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(sections, height, width)."""
        sections, height, width = self.image.shape
        return sections, height, width
