"""What there is to look at in the folder of a prediction or of neurons."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from taclnet_jax.data.cremi_file import IDS
from taclnet_jax.errors import InputError
from taclnet_jax.files import parse_json
from taclnet_jax.neurons import Place, RegionGraph, agglomerate
from taclnet_jax.neurons.doubtful import read_places
from taclnet_jax.neurons.volume import ABOUT as NEURONS
from taclnet_jax.prediction.job import NAMES
from taclnet_jax.prediction.older import ABOUT as PREDICTION
from taclnet_jax.volumes import StoredArray, open_array
from taclnet_jax.volumes.sections import Triple

# Neurons of which surfaces are shown at first.
_LARGEST = 20
_ORIGIN = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Layer:
    """An array, and where it is.

    Attributes:
        name: what it holds: image, neurons, or one of `NAMES`.
        array: `[z, y, x]`.
        first: place of its first voxel (z, y, x), in voxels.
    """

    name: str
    array: StoredArray
    first: Triple = _ORIGIN

    @property
    def is_ids(self) -> bool:
        """Whether its numbers are names."""
        return self.name in ('segments', 'neurons')


@dataclass
class Look:
    """What is looked at.

    Attributes:
        layers: arrays of one voxel size, the image first.
        resolution_nm: of a voxel (z, y, x), None where nobody says.
        largest: the numbers of the neurons with most voxels.
        places: doubtful ones of the neurons, in their voxels.
        left_out: why what else there should be is not there.
    """

    layers: list[Layer] = field(default_factory=list)
    resolution_nm: Triple | None = None
    largest: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def open_look(folder: str) -> Look:
    """Opens what a prediction or neurons hold, and what they are of; nothing is loaded.

    Raises:
        InputError: the folder holds neither, or they cannot be read. What they are of may be gone.
    """
    path, look = Path(folder), Look()
    if (path / NEURONS).is_file():
        _add_neurons(look, path)
    elif (path / PREDICTION).is_file():
        _add_prediction(look, path)
    else:
        raise InputError(
            f'Expected --input to be the folder of a prediction or of neurons, with {PREDICTION} '
            f'or {NEURONS} in it; found none of them in {path}.'
        )
    return look


def _add_neurons(look: Look, path: Path) -> None:
    with _told(path / NEURONS) as about:
        files, (source, dataset, *_) = dict(about['files']), about['input']
        told = _triple(about['resolution_nm'])
        first = _first(about['offset_nm'], told)
        name, kept, doubtful = (files[what] for what in ('neurons', 'graph', 'doubtful'))
        threshold = about['join_threshold']
    try:
        if Path(source, PREDICTION).is_file():
            _add_prediction(look, Path(source))
            first = look.layers[-1].first  # neurons do not know it where voxels have no size
        else:
            look.layers.append(Layer('segments', open_array(source, 'segments', dataset), first))
    except InputError as error:
        look.left_out.append(str(error))
    look.resolution_nm = told or look.resolution_nm  # not the prediction's, though it was read last
    look.layers.append(Layer('neurons', _open(path / name, 'neurons', IDS), first))
    look.places = read_places(path / doubtful)
    graph = RegionGraph.load(path / kept)
    neurons = agglomerate(graph, threshold)
    sizes = np.bincount(neurons.astype(np.int64) - 1, graph.sizes)
    look.largest = (1 + np.argsort(-sizes, kind='stable')[:_LARGEST]).tolist()


def _add_prediction(look: Look, path: Path) -> None:
    with _told(path / PREDICTION) as about:
        files, box = dict(about['files']), about['box']
        source, dataset = about['input'], about['dataset']
        look.resolution_nm = _triple(about['resolution_nm'])
        first = _triple([start for start, _ in box]) or _ORIGIN
        if look.resolution_nm is not None:
            first = _first(about['offset_nm'], look.resolution_nm)
    try:
        image = open_array(source, 'image', dataset)
        corner = _first(image.offset_nm, look.resolution_nm)
        look.layers.append(Layer('image', image, corner))
    except InputError as error:
        look.left_out.append(str(error))
    for name in NAMES:
        if name in files:
            inside = IDS if name == 'segments' else f'volumes/{name}'
            look.layers.append(Layer(name, _open(path / files[name], name, inside), first))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[dict[str, Any]]:
    """What a file says of its folder; what is missing or wrong in it becomes a message."""
    try:
        yield parse_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'Expected what {path} says of its folder, found it damaged; make it again.'
        ) from error


def _open(path: Path, what: str, inside: str) -> StoredArray:
    return open_array(path, what, inside if path.suffix == '.h5' else '')


def _triple(values: Sequence[float] | None) -> Triple | None:
    if values is None:
        return None
    z, y, x = (float(value) for value in values)
    return z, y, x


def _first(offset_nm: Sequence[float] | None, resolution_nm: Triple | None) -> Triple:
    """The place of a first voxel, in voxels."""
    if offset_nm is None or resolution_nm is None:
        return _ORIGIN
    z, y, x = (o / nm for o, nm in zip(offset_nm, resolution_nm, strict=True))
    return z, y, x
