"""Serves volumes to Neuroglancer in a browser; voxels are read when it asks for them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taclnet_jax import page
from taclnet_jax.data.cache import SectionCache
from taclnet_jax.errors import InputError
from taclnet_jax.neurons import Place
from taclnet_jax.neurons.page import places_table
from taclnet_jax.viewing.layers import Layer, Look
from taclnet_jax.volumes import Sections, read_whole
from taclnet_jax.volumes.chunked import is_chunked
from taclnet_jax.volumes.sections import Triple
from taclnet_jax.volumes.units import given_nm

# Of compressed sections, which are decoded whole.
_CACHE_MB = 500
# Surfaces are made of the whole array in memory.
_MESHED_VOXELS = 2**26
_COLOURS = {'membrane': '0.3, 0.6, 1.0', 'refined': '0.2, 0.9, 0.5', 'attention': '1.0, 0.2, 0.1'}
_OVERLAY = """#uicontrol invlerp normalized
void main() {{ emitRGBA(vec4({}, normalized())); }}
"""


class Served(NamedTuple):
    """Where a browser finds them; `viewer` is Neuroglancer's own."""

    address: str
    places: str  # the list of doubtful places; '' where there is none
    viewer: Any


@contextlib.contextmanager
def serving(
    look: Look, host: str = '127.0.0.1', port: int = 0, voxel_nm: Sequence[float | str] = ()
) -> Iterator[Served]:
    """Serves what is looked at until the end of the context.

    Args:
        look: of `open_look`.
        host: address to listen at; by default programs of this machine alone reach it.
        port: 0 for any free one.
        voxel_nm: its size (z, y, x), in place of what the volume says; voxels are cubes where
            neither is known.

    Raises:
        InputError: Neuroglancer is not installed, or nothing can be served there.
    """
    told = given_nm(voxel_nm)
    try:
        import neuroglancer
    except ModuleNotFoundError as error:
        raise InputError(
            f'Expected the package neuroglancer for --mode=view, found none ({error}); install it '
            'with: pip install neuroglancer'
        ) from error
    neuroglancer.set_server_bind_address(host, port)
    try:
        viewer = neuroglancer.Viewer()
    except (OSError, OverflowError) as error:
        raise InputError(
            f'Cannot listen at {host}, port {port} ({error}); choose others with --host and --port.'
        ) from error
    try:
        _fill(viewer, look, told or look.resolution_nm)
        places = _serve_places(viewer, look) if look.places else ''
        yield Served(viewer.get_viewer_url(), places, viewer)
    finally:
        neuroglancer.stop()


def _fill(viewer: Any, look: Look, resolution_nm: Triple | None) -> None:
    import neuroglancer as ng

    # Neuroglancer counts x first.
    space = ng.CoordinateSpace(
        names=['x', 'y', 'z'],
        units='nm' if resolution_nm else '',
        scales=resolution_nm[::-1] if resolution_nm else [1, 1, 1],
    )
    cache = SectionCache(_CACHE_MB)
    shown = look.layers[-1]
    with viewer.txn() as state:
        state.dimensions = space
        state.position = [
            at + size / 2
            for at, size in zip(shown.first[::-1], shown.array.shape[::-1], strict=True)
        ]
        state.cross_section_scale = max(shown.array.shape[1:]) / 600  # voxels in a pixel
        state.projection_scale = 1.5 * max(shown.array.shape[1:])
        state.layout = '4panel' if shown.name == 'neurons' else 'xy'
        state.show_slices = False
        for layer in look.layers:
            source = ng.LayerDataSource(
                url=_volume(layer, space, cache),
                transform=ng.CoordinateSpaceTransform(
                    output_dimensions=space, matrix=np.c_[np.eye(3), layer.first[::-1]]
                ),
            )
            # Maps are a click away, and what a later layer shows better.
            visible = layer is shown or layer.name == 'image'
            state.layers.append(layer.name, _drawn(layer, source), visible=visible)
        if look.places:
            state.layers.append('doubtful', _points(look, space))
        if shown.name == 'neurons':
            state.layers['neurons'].layer.segments = look.largest
        state.selected_layer.layer = 'doubtful' if look.places else shown.name


def _drawn(layer: Layer, source: Any) -> Any:
    """A layer as Neuroglancer draws it."""
    import neuroglancer as ng

    if layer.is_ids:
        # Neurons that are not chosen stay in colours; segments are chosen to stand out of them.
        others = 0.15 if layer.name == 'neurons' else 0.0
        return ng.SegmentationLayer(source=source, selected_alpha=0.4, not_selected_alpha=others)
    if layer.name == 'image':
        middle = layer.array[layer.array.shape[0] // 2]
        low, high = np.percentile(middle[np.isfinite(middle)], (0.5, 99.5))
        return ng.ImageLayer(source=source, shader_controls={'normalized': {'range': [low, high]}})
    return ng.ImageLayer(
        source=source,
        shader=_OVERLAY.format(_COLOURS[layer.name]),
        shader_controls={'normalized': {'range': [0, 255 if layer.array.dtype == np.uint8 else 1]}},
        opacity=0.8,
    )


def _volume(layer: Layer, space: Any, cache: SectionCache) -> Any:
    import neuroglancer as ng

    array: Sections = layer.array
    section_mb = math.prod(array.shape[1:]) * array.dtype.itemsize / 1e6
    path = layer.array.path
    if '://' not in path and not is_chunked(Path(path)) and section_mb < _CACHE_MB / 10:
        array = cache.of(array)
    return ng.LocalVolume(
        _Voxels(array, layer.is_ids), space, volume_type='segmentation' if layer.is_ids else 'image'
    )


def _points(look: Look, space: Any) -> Any:
    """Doubtful places as annotations: a click on one of their list goes there."""
    import neuroglancer as ng

    points = [
        ng.PointAnnotation(
            id=str(number), point=_position(look, place), description=f'{number} {place.kind}'
        )
        for number, place in enumerate(look.places, 1)
    ]
    return ng.LocalAnnotationLayer(space, annotations=points)


def _position(look: Look, place: Place) -> list[float]:
    """The middle of its voxel, x first."""
    first = look.layers[-1].first[::-1]
    return [n + at + 0.5 for n, at in zip((place.x, place.y, place.z), first, strict=True)]


def _serve_places(viewer: Any, look: Look) -> str:
    """Adds a page of the doubtful places to the server, whose links show them."""
    import neuroglancer as ng
    from tornado.web import HTTPError, RequestHandler

    table = places_table(look.places, lambda number: page.link(str(number), str(number)))
    shown = page.page('Doubtful places', table)

    class Listed(RequestHandler):
        def get(self) -> None:
            self.finish(shown)

    class Shown(RequestHandler):
        def get(self, number: str) -> None:
            if not 1 <= int(number) <= len(look.places):
                raise HTTPError(404)
            show_place(viewer, look, look.places[int(number) - 1])
            self.redirect(viewer.get_viewer_url())

    root = f'/places/{viewer.token}/'
    server = ng.server.global_server
    server.app.add_handlers('.*', [(root, Listed), (rf'{root}(\d+)', Shown)])
    return f'{server.server_url}{root}'


def show_place(viewer: Any, look: Look, place: Place) -> None:
    """Puts all browsers of a viewer to a doubtful place, with its segments and neurons chosen."""
    with viewer.txn() as state:
        state.position = _position(look, place)
        state.cross_section_scale = 0.5
        state.layers['neurons'].layer.segments = {place.neuron, place.other_neuron}
        if 'segments' in state.layers:
            state.layers['segments'].layer.segments = {place.segment, place.other}
            state.layers['segments'].visible = True


class _Voxels:
    """`[x, y, z]`, as Neuroglancer takes arrays, of sections that are read when it asks."""

    def __init__(self, sections: Sections, is_ids: bool) -> None:
        self._sections = sections
        self.shape = sections.shape[::-1]
        self.dtype = _shown_type(sections.dtype, is_ids)

    def __getitem__(self, box: tuple[slice, slice, slice]) -> NDArray[Any]:
        x, y, z = box
        crops = [self._sections[k, y, x] for k in range(self.shape[2])[z]]
        return np.stack(crops).astype(self.dtype).T

    def transpose(self) -> NDArray[Any]:
        """All of it as `[z, y, x]`, of which Neuroglancer makes surfaces."""
        if math.prod(self.shape) > _MESHED_VOXELS:
            raise ValueError('The volume is too large for surfaces.')
        return read_whole(self._sections).astype(self.dtype)


def _shown_type(dtype: np.dtype, is_ids: bool) -> np.dtype:
    """The nearest of the types that Neuroglancer knows."""
    if is_ids:
        return np.dtype(np.uint32 if dtype.itemsize <= 4 else np.uint64)
    if dtype.kind == 'b':
        return np.dtype(np.uint8)
    if dtype.kind == 'f' or dtype.itemsize == 8:
        return np.dtype(np.float32)
    return dtype
