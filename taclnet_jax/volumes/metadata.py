"""Axis names, voxel sizes and offsets, as the attributes of arrays on disk say them."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from taclnet_jax.files import parse_json
from taclnet_jax.volumes.axes import Axes
from taclnet_jax.volumes.sections import Geometry
from taclnet_jax.volumes.units import triple_nm

Json = Mapping[str, Any]


def first_level(attributes: Json) -> str | None:
    """Path of the finest level of an OME-Zarr image, within its group; None if it is none."""
    return next((path for path, _, _ in _levels(attributes)), None)


def ome_axis_names(attributes: Json, level: str) -> list[str]:
    """Names of the axes of a level of an OME-Zarr image; none if there is no such level."""
    image, _ = _level(attributes, level)
    axes = _list(image, 'axes')
    return [str(axis.get('name') if isinstance(axis, Mapping) else axis) for axis in axes]


def array_axis_names(attributes: Json) -> list[str] | None:
    """Names of the axes among the attributes of an array, as xarray, funlib or ilastik write."""
    for key in ('_ARRAY_DIMENSIONS', 'axis_names', 'axes'):
        names = _list(attributes, key)
        if names and all(isinstance(name, str) for name in names):
            return list(names)
    tags: Any = attributes.get('axistags')
    with contextlib.suppress(TypeError, ValueError):
        tags = parse_json(tags)
    if isinstance(tags, Mapping):
        return [str(axis.get('key')) for axis in _mappings(tags, 'axes')] or None
    return None


def ome_geometry(attributes: Json, level: str, axes: Axes) -> Geometry:
    """Voxel size and offset of a level of an OME-Zarr image (versions 0.4 and 0.5)."""
    image, dataset = _level(attributes, level)
    units = axes.pick(
        [axis.get('unit') if isinstance(axis, Mapping) else None for axis in _list(image, 'axes')]
    )
    size, place, moved = np.ones(3), np.zeros(3), False
    # A level's own transformations come first, then those of all levels.
    for holder in (dataset, image):
        for transformation in _mappings(holder, 'coordinateTransformations'):
            scale = triple_nm(axes.pick(transformation.get('scale')), positive=False)
            shift = triple_nm(axes.pick(transformation.get('translation')), positive=False)
            size, place = size * (scale or 1), place * (scale or 1) + (shift or 0)
            moved |= shift is not None
    return Geometry(
        triple_nm(size, units), triple_nm(place, units, positive=False) if moved else None
    )


def plain_geometry(attributes: Json, axes: Axes) -> Geometry:
    """The attributes `resolution` (or `voxel_size`) and `offset` on an array, nm without `units`.

    They follow the axes on disk; so CREMI, gunpowder, funlib, Paintera and Neuroglancer have them.
    Fiji and ilastik have `element_size_um`.
    """
    units = attributes.get('units', attributes.get('unit', 'nm'))
    if not isinstance(units, str | bytes):
        units = axes.pick(units)
    resolution = attributes.get('resolution', attributes.get('voxel_size'))
    return Geometry(
        triple_nm(axes.pick(resolution), units)
        or triple_nm(axes.pick(attributes.get('element_size_um')), 'um'),
        triple_nm(axes.pick(attributes.get('offset')), units, positive=False),
    )


def n5_geometry(attributes: Json, groups: Iterable[Json], axes: Axes) -> Geometry:
    """Voxel size and offset of an N5 array, or those of the nearest group around it that has them.

    The groups of a pyramid give the voxel size of its finest level.
    """
    own = _n5_geometry(attributes, axes)
    if own.resolution_nm is not None:
        return own
    factors = triple_nm(axes.pick(attributes.get('downsamplingFactors'))) or (1, 1, 1)
    for group in groups:
        finest = _n5_geometry(group, axes)
        if finest.resolution_nm is not None:
            resolution_nm = triple_nm(np.multiply(finest.resolution_nm, factors))
            return Geometry(resolution_nm, finest.offset_nm)
    return own


def _n5_geometry(attributes: Json, axes: Axes) -> Geometry:
    """What COSEM, N5 Viewer or others write: the latter two `plain_geometry`'s attributes, too."""
    transform = attributes.get('transform')
    if isinstance(transform, Mapping):
        names = [str(name) for name in _list(transform, 'axes')]
        if {'z', 'y', 'x'} <= set(names):
            size, place, units = (
                [dict(zip(names, _list(transform, key), strict=False)).get(name) for name in 'zyx']
                for key in ('scale', 'translate', 'units')
            )
            return Geometry(triple_nm(size, units), triple_nm(place, units, positive=False))
    plain = plain_geometry(attributes, axes)
    pixel = attributes.get('pixelResolution')
    if not isinstance(pixel, Mapping):
        return plain
    resolution_nm = triple_nm(axes.pick(pixel.get('dimensions')), pixel.get('unit'))
    return Geometry(resolution_nm or plain.resolution_nm, plain.offset_nm)


def precomputed_geometry(info: Json, axes: Axes) -> Geometry:
    """Voxel size and offset of the finest scale, which precomputed has in nm and voxels."""
    scale = info['scales'][0]
    resolution_nm = triple_nm(axes.pick(scale['resolution']))
    voxels = triple_nm(axes.pick(scale.get('voxel_offset', (0, 0, 0))), positive=False)
    if resolution_nm is None or voxels is None:
        return Geometry(resolution_nm)
    return Geometry(resolution_nm, triple_nm(np.multiply(resolution_nm, voxels), positive=False))


def ome_attributes(version: str, levels: Sequence[Geometry]) -> dict[str, Any]:
    """Attributes of the group of an OME-Zarr image, whose levels are named 0, 1, ...

    Without a voxel size the axes have no unit: OME-Zarr must give a scale.
    """
    unit = {} if levels[0].resolution_nm is None else {'unit': 'nanometer'}
    datasets = []
    for number, (resolution_nm, offset_nm) in enumerate(levels):
        coarse = 2.0**number
        scale = resolution_nm or (1.0, coarse, coarse)
        transformations: list[dict[str, Any]] = [{'type': 'scale', 'scale': list(scale)}]
        if offset_nm is not None:
            transformations.append({'type': 'translation', 'translation': list(offset_nm)})
        datasets.append({'path': str(number), 'coordinateTransformations': transformations})
    axes = [{'name': name, 'type': 'space', **unit} for name in 'zyx']
    multiscale = {'axes': axes, 'datasets': datasets}
    if version == '0.4':
        return {'multiscales': [{'version': version, **multiscale}]}
    return {'ome': {'version': version, 'multiscales': [multiscale]}}


def plain_attributes(geometry: Geometry) -> dict[str, Any]:
    """Attributes of a zarr array in the manner of funlib and gunpowder."""
    attributes: dict[str, Any] = {'axis_names': ['z', 'y', 'x']}
    if geometry.resolution_nm is not None:
        attributes |= {'resolution': list(geometry.resolution_nm), 'units': ['nm'] * 3}
    if geometry.offset_nm is not None:
        attributes['offset'] = list(geometry.offset_nm)
    return attributes


def n5_attributes(geometry: Geometry) -> dict[str, Any]:
    """Attributes of an N5 array, for N5 Viewer and Fiji, Paintera and Neuroglancer."""
    plain = plain_attributes(geometry)
    attributes = {'axes': plain.pop('axis_names')[::-1]}
    attributes |= {name: values[::-1] for name, values in plain.items()}
    if geometry.resolution_nm is not None:
        attributes['pixelResolution'] = {'unit': 'nm', 'dimensions': attributes['resolution']}
    return attributes


def _levels(attributes: Json) -> list[tuple[str, Json, Json]]:
    """Path, image and metadata of each level, the finest of the first image first."""
    ome = attributes.get('ome')
    return [
        (level['path'].strip('/'), image, level)
        for image in _mappings(ome if isinstance(ome, Mapping) else attributes, 'multiscales')
        for level in _mappings(image, 'datasets')
        if isinstance(level.get('path'), str)
    ]


def _level(attributes: Json, level: str) -> tuple[Json, Json]:
    found = ((image, dataset) for path, image, dataset in _levels(attributes) if path == level)
    return next(found, ({}, {}))


def _mappings(mapping: Json, key: str) -> list[Json]:
    return [value for value in _list(mapping, key) if isinstance(value, Mapping)]


def _list(mapping: Json, key: str) -> list[Any]:
    value = mapping.get(key)
    return value if isinstance(value, list) else []
