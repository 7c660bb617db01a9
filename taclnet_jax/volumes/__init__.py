"""EM volumes on disk, `[z, y, x]`: TIFF, PNG, HDF5, zarr, N5, Neuroglancer precomputed."""

from taclnet_jax.volumes.axes import check_axis_order as check_axis_order
from taclnet_jax.volumes.eight_bit import as_uint8_image as as_uint8_image
from taclnet_jax.volumes.eight_bit import as_uint8_sections as as_uint8_sections
from taclnet_jax.volumes.opening import absolute_path as absolute_path
from taclnet_jax.volumes.opening import local_folder as local_folder
from taclnet_jax.volumes.opening import local_path as local_path
from taclnet_jax.volumes.opening import open_array as open_array
from taclnet_jax.volumes.sections import LazySections as LazySections
from taclnet_jax.volumes.sections import Sections as Sections
from taclnet_jax.volumes.sections import StoredArray as StoredArray
from taclnet_jax.volumes.sections import only_sections as only_sections
from taclnet_jax.volumes.sections import read_whole as read_whole
from taclnet_jax.volumes.sections import section_shape as section_shape
from taclnet_jax.volumes.tiff import read_stack as read_stack
from taclnet_jax.volumes.writing import ENDINGS as ENDINGS
from taclnet_jax.volumes.writing import FORMATS as FORMATS
from taclnet_jax.volumes.writing import check_array as check_array
from taclnet_jax.volumes.writing import write_array as write_array
