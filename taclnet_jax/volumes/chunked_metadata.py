"""Axis names, voxel sizes and offsets, as zarr, OME-Zarr, N5 and precomputed say them."""

from collections.abc import Mapping, Sequence
from typing import Any

from taclnet_jax.volumes.axes import Axes
from taclnet_jax.volumes.sections import Geometry
from taclnet_jax.volumes.units import triple_nm

Json = Mapping[str, Any]


def first_level(attributes: Json) -> str | None:
    """Path of the finest level of an OME-Zarr image, within its group; None if it is none."""
    for multiscale in _multiscales(attributes):
        for level in _list(multiscale, 'datasets'):
            if isinstance(level, Mapping) and isinstance(level.get('path'), str):
                return level['path'].strip('/')
    return None


def ome_axis_names(attributes: Json, level: str) -> list[str] | None:
    """Names of the axes of a level of an OME-Zarr image."""
    multiscale, _ = _level(attributes, level)
    axes = _list(multiscale, 'axes')
    names = [axis.get('name') if isinstance(axis, Mapping) else axis for axis in axes]
    return [str(name) for name in names] or None


def array_axis_names(attributes: Json) -> list[str] | None:
    """Names of the axes among the attributes of a zarr array, as xarray or funlib write them."""
    for key in ('_ARRAY_DIMENSIONS', 'axis_names'):
        names = _list(attributes, key)
        if names and all(isinstance(name, str) for name in names):
            return list(names)
    return None


def ome_geometry(attributes: Json, level: str, axes: Axes) -> Geometry:
    """Voxel size and offset of a level of an OME-Zarr image (versions 0.4 and 0.5)."""
    multiscale, dataset = _level(attributes, level)
    units = axes.pick(
        [a.get('unit') if isinstance(a, Mapping) else None for a in _list(multiscale, 'axes')]
    )
    if units is None:
        return Geometry()
    size, place = [1.0] * 3, [0.0] * 3
    moved = False
    # A level's own transformations come first, then those of all levels.
    for transformation in (
        *_list(dataset, 'coordinateTransformations'),
        *_list(multiscale, 'coordinateTransformations'),
    ):
        if not isinstance(transformation, Mapping):
            continue
        scale = _numbers(axes.pick(transformation.get('scale')))
        translation = _numbers(axes.pick(transformation.get('translation')))
        if scale is not None:
            size = [a * b for a, b in zip(size, scale, strict=True)]
            place = [a * b for a, b in zip(place, scale, strict=True)]
        if translation is not None:
            place = [a + b for a, b in zip(place, translation, strict=True)]
            moved = True
    return Geometry(
        triple_nm(size, units), triple_nm(place, units, positive=False) if moved else None
    )


def plain_geometry(attributes: Json, axes: Axes) -> Geometry:
    """The attributes `resolution` (or `voxel_size`) and `offset` on an array, nm without `units`.

    They follow the axes on disk; so gunpowder, funlib, Paintera and Neuroglancer have them.
    """
    units: Any = attributes.get('units', attributes.get('unit', 'nm'))
    if isinstance(units, list):
        units = axes.pick(units)
        if units is None:
            return Geometry()
    resolution = attributes.get('resolution', attributes.get('voxel_size'))
    return Geometry(
        triple_nm(axes.pick(resolution), units),
        triple_nm(axes.pick(attributes.get('offset')), units, positive=False),
    )


def n5_geometry(attributes: Json, axes: Axes) -> Geometry:
    """Voxel size and offset of an N5 array.

    N5 Viewer writes `pixelResolution` with a unit, COSEM `transform` with names of its axes,
    Paintera and Neuroglancer `resolution`.
    """
    transform = attributes.get('transform')
    if isinstance(transform, Mapping):
        names = _list(transform, 'axes')
        if {'z', 'y', 'x'} <= {name for name in names if isinstance(name, str)}:

            def named(key: str) -> list[Any] | None:
                values = _list(transform, key)
                if len(values) != len(names):
                    return None
                return [values[names.index(axis)] for axis in 'zyx']

            units = named('units')
            return Geometry(
                triple_nm(named('scale'), units),
                triple_nm(named('translate'), units, positive=False),
            )
    plain = plain_geometry(attributes, axes)
    pixel = attributes.get('pixelResolution')
    if isinstance(pixel, Mapping):
        resolution = triple_nm(axes.pick(pixel.get('dimensions')), pixel.get('unit'))
        return Geometry(resolution or plain.resolution_nm, plain.offset_nm)
    return plain


def n5_downsampled(geometry: Geometry, factors: Any, axes: Axes) -> Geometry:
    """Voxel size of a level whose group gives the finest one's."""
    picked = _numbers(axes.pick(factors))
    if geometry.resolution_nm is None or picked is None:
        return geometry
    z, y, x = (a * b for a, b in zip(geometry.resolution_nm, picked, strict=True))
    return Geometry((z, y, x), geometry.offset_nm)


def precomputed_geometry(info: Json, axes: Axes) -> Geometry:
    """Voxel size and offset of the finest scale, which precomputed has in nm and voxels."""
    scale = info['scales'][0]
    resolution = triple_nm(axes.pick([*scale['resolution'], 1]))
    voxels = axes.pick([*scale.get('voxel_offset', (0, 0, 0)), 0])
    if resolution is None or voxels is None:
        return Geometry(resolution)
    z, y, x = (nm * count for nm, count in zip(resolution, voxels, strict=True))
    return Geometry(resolution, (z, y, x))


def ome_attributes(version: str, level: str, geometry: Geometry) -> dict[str, Any]:
    """Attributes of the group of an OME-Zarr image with one level.

    Without a voxel size the axes have no unit: OME-Zarr must give a scale.
    """
    unit = {} if geometry.resolution_nm is None else {'unit': 'nanometer'}
    transformations: list[dict[str, Any]] = [
        {'type': 'scale', 'scale': list(geometry.resolution_nm or (1.0, 1.0, 1.0))}
    ]
    if geometry.offset_nm is not None:
        transformations.append({'type': 'translation', 'translation': list(geometry.offset_nm)})
    multiscale = {
        'axes': [{'name': name, 'type': 'space', **unit} for name in 'zyx'],
        'datasets': [{'path': level, 'coordinateTransformations': transformations}],
    }
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


def _multiscales(attributes: Json) -> list[Json]:
    ome = attributes.get('ome')
    found = _list(ome if isinstance(ome, Mapping) else attributes, 'multiscales')
    return [multiscale for multiscale in found if isinstance(multiscale, Mapping)]


def _level(attributes: Json, level: str) -> tuple[Json, Json]:
    for multiscale in _multiscales(attributes):
        for dataset in _list(multiscale, 'datasets'):
            if isinstance(dataset, Mapping) and str(dataset.get('path')).strip('/') == level:
                return multiscale, dataset
    return {}, {}


def _numbers(values: list[Any] | None) -> list[float] | None:
    numbers = [value for value in values or () if isinstance(value, int | float)]
    return numbers if values is not None and len(numbers) == len(values) else None


def _list(mapping: Json, key: str) -> Sequence[Any]:
    value = mapping.get(key)
    return value if isinstance(value, list) else []
