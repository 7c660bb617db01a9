"""Joins the segments of a volume on disk to neurons, and keeps their region graph beside them."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import taclnet_jax
from taclnet_jax.data.cremi_file import IDS
from taclnet_jax.errors import InputError
from taclnet_jax.files import explained, parse_json, replacing, write_text
from taclnet_jax.neurons.agglomeration import THRESHOLD, agglomerate
from taclnet_jax.neurons.doubtful import doubtful_places, write_places
from taclnet_jax.neurons.graph import RegionGraph, region_graph
from taclnet_jax.neurons.joining import joined
from taclnet_jax.neurons.page import neurons_page
from taclnet_jax.neurons.source import identity, masked, open_segments
from taclnet_jax.progress import with_progress
from taclnet_jax.volumes import (
    ENDINGS,
    LazySections,
    Sections,
    check_array,
    local_folder,
    open_array,
    write_array,
)
from taclnet_jax.volumes.sections import Geometry, Triple, listed, shown
from taclnet_jax.volumes.units import given_nm

ABOUT = 'neurons.json'
"""Says what neurons are of, and which files are of them."""
_GRAPH, _DOUBTFUL, _REPORT = 'graph.npz', 'doubtful.csv', 'report.html'


@dataclass(frozen=True)
class Options:
    """How segments are joined, and what is written.

    Attributes:
        input_dataset: of the segments, inside HDF5, zarr or N5.
        mask: a volume of the same size, '' for none; where it is 0, nothing is joined, and 0.
        mask_dataset: inside its file.
        voxel_nm: (z, y, x), in place of what the segments' file says of it; () = that.
        join_threshold: the least IoU of two segments that are joined.
        format: of `taclnet_jax.volumes.FORMATS`, but png, whose numbers are too small.
        overwrite: replace older neurons; their graph is used where it is of the same segments.
    """

    input_dataset: str = ''
    mask: str = ''
    mask_dataset: str = ''
    voxel_nm: Sequence[float | str] = ()
    join_threshold: float = THRESHOLD
    format: str = 'tiff'
    overwrite: bool = False


class Segmented(NamedTuple):
    """What `segment_volume` has written."""

    files: dict[str, str]  # or folders, by what they hold
    segments: int  # of single sections
    neurons: int


def segment_volume(input_path: str, output: str | Path, options: Options = Options()) -> Segmented:
    """Joins the segments of the sections of a volume to neurons in 3-d.

    Sections are read one by one, and few are in memory; of the whole volume there is its region
    graph alone, some 150 bytes a segment and 100 an edge.

    Args:
        input_path: folder of a prediction with segments, or segments of any format of
            `taclnet_jax.volumes.open_array`, integers `[z, y, x]`, 0 = membrane, each number of one
            section only.
        output: folder of the neurons, the region graph, the doubtful places and a report, written
            whole or not at all.
        options: how.

    Returns:
        The files, and how many segments became how many neurons.

    Raises:
        InputError: the segments, the mask or the output cannot be used.
    """
    folder = local_folder(output, '--output of neurons')
    told = given_nm(options.voxel_nm)
    source, geometry = open_segments(input_path, options.input_dataset)
    if told is not None:
        geometry = _resized(geometry, told)
    stored = _checked_format(options.format, source.shape, geometry)
    before = _older(folder, options.overwrite)
    mask = open_array(options.mask, 'mask', options.mask_dataset) if options.mask else None
    segments: Sections = masked(source, mask) if mask is not None else source
    made_of = {
        'input': identity(input_path, options.input_dataset, source),
        'mask': identity(options.mask, options.mask_dataset, mask),
    }
    # What lies at an address may have been written again, without a trace.
    known = all(made[-1] or not made[0] for made in made_of.values())
    same = known and all(before.get(key) == value for key, value in made_of.items())
    if same and (folder / _GRAPH).exists():
        graph = RegionGraph.load(folder / _GRAPH)
    else:
        depth = segments.shape[0]
        sections = with_progress(range(depth), depth, 'region graph', 'section')
        graph = region_graph(segments, sections)
    neurons = agglomerate(graph, options.join_threshold)
    counts = len(graph.ids), int(neurons.max())
    name = f'neurons{ENDINGS.get(options.format, "")}'
    files = {'neurons': name, 'graph': _GRAPH, 'doubtful': _DOUBTFUL, 'report': _REPORT}
    with explained(folder), replacing(folder) as partial:
        partial.mkdir()
        graph.save(partial / _GRAPH)
        places = doubtful_places(segments, graph, neurons)
        write_places(partial / _DOUBTFUL, places)
        _write(partial / name, joined(segments, graph, neurons), options.format, stored)
        about = {
            **made_of,
            'files': files,
            'join_threshold': options.join_threshold,
            'segments': counts[0],
            'neurons': counts[1],
            'resolution_nm': geometry.resolution_nm,
            'offset_nm': geometry.offset_nm,
            'version': taclnet_jax.__version__,
        }
        write_text(partial / _REPORT, neurons_page(about, graph, places))
        write_text(partial / ABOUT, json.dumps(about, indent=2) + '\n')
    return Segmented({what: str(folder / file) for what, file in files.items()}, *counts)


def _checked_format(format: str, shape: Sequence[int], geometry: Geometry) -> Geometry:
    """What the format can hold of the geometry; checked before the work."""
    if format == 'png':
        raise InputError(
            'PNG cannot hold the numbers of neurons, which have 32 bits or more; choose another '
            '--format.'
        )
    # What TIFF cannot hold stands in neurons.json.
    stored = geometry._replace(offset_nm=None) if format == 'tiff' else geometry
    check_array('neurons', shape, np.uint32, format, **stored._asdict())
    return stored


def _resized(geometry: Geometry, told: Triple) -> Geometry:
    """With another voxel size; the first voxel keeps its number."""
    size, offset = geometry
    if size is None or offset is None:
        return Geometry(told, offset)
    z, y, x = (o / old * new for o, old, new in zip(offset, size, told, strict=True))
    return Geometry(told, (z, y, x))


def _older(folder: Path, overwrite: bool) -> Mapping[str, Any]:
    """What is said of the neurons that a folder holds; nothing where it is empty or not there.

    Raises:
        InputError: it holds something else, or they are not to be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f'Expected --output to be a folder; {folder} is a file.')
    if not folder.exists() or not any(folder.iterdir()):
        return {}
    told: dict[str, Any] = {}
    known: set[str] = set()
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        told = parse_json((folder / ABOUT).read_text())
        known = {ABOUT, *told['files'].values()}
    others = sorted({path.name for path in folder.iterdir()} - known)
    if others:
        raise InputError(
            f'Expected --output to be a new folder, or that of neurons; {folder} holds something '
            f'else ({listed(others, 3)}). Choose another one.'
        )
    if not overwrite:
        raise InputError(
            f'{folder} holds neurons joined from an IoU of {told.get("join_threshold")} on. Choose '
            'another --output, or replace them with --overwrite, which uses their region graph.'
        )
    return told


def _write(path: Path, neurons: LazySections, format: str, geometry: Geometry) -> None:
    """With progress."""
    with shown(neurons, 'writing neurons') as read:
        write_array(
            path, read, format=format, dataset=IDS if format == 'hdf5' else '', **geometry._asdict()
        )
