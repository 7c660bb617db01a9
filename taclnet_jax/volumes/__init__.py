"""EM volumes on disk, `[z, y, x]`: TIFF, PNG, HDF5, zarr, N5, Neuroglancer precomputed."""

from taclnet_jax.volumes.axis_order import check_axis_order
from taclnet_jax.volumes.eight_bit import as_uint8_image, as_uint8_sections
from taclnet_jax.volumes.opening import open_array
from taclnet_jax.volumes.sections import LazySections, Sections, StoredArray, read_whole
from taclnet_jax.volumes.tiff import read_stack
from taclnet_jax.volumes.writing import FORMATS, write_array, write_stack

__all__ = [
    'FORMATS',
    'LazySections',
    'Sections',
    'StoredArray',
    'as_uint8_image',
    'as_uint8_sections',
    'check_axis_order',
    'open_array',
    'read_stack',
    'read_whole',
    'write_array',
    'write_stack',
]
