"""What is to be known of neurons, as one HTML file, and the list of their doubtful places."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taclnet_jax import page
from taclnet_jax.neurons.doubtful import Place
from taclnet_jax.neurons.graph import RegionGraph

_LISTED = 20  # sections


def neurons_page(about: Mapping[str, Any], graph: RegionGraph, places: Sequence[Place]) -> str:
    """A page: what they are, sections that continue least in the next ones, doubtful places.

    Args:
        about: what neurons.json holds.
        graph, places: of the neurons.
    """
    facts = {
        'segments of': ' '.join(map(str, about['input'][:2])),
        'joined from an IoU of': f'{about["join_threshold"]:g}',
        'segments': about['segments'],
        'neurons': about['neurons'],
        'version': about['version'],
    }
    alike = continuity(graph)
    counts = np.diff(graph.starts)
    worst = np.argsort(alike, kind='stable')[:_LISTED].tolist()
    parts = [
        page.table(['neurons', ''], facts.items()),
        page.heading('Sections, worst first'),
        page.paragraph(
            'The IoU of a segment with the best one of the section before or after, mean over the '
            'pixels of the section; low where a section is lost, torn or shifted.'
        ),
        page.table(
            ['section', 'IoU', 'segments'], [[z, float(alike[z]), counts[z]] for z in worst]
        ),
        page.heading('Doubtful places'),
        *places_table(places, str),
    ]
    return page.page('Neurons', parts)


def continuity(graph: RegionGraph) -> NDArray[np.float64]:
    """Of each section: the best IoU of its segments with neighbours, mean by pixels; 0 if empty."""
    best = np.zeros(len(graph.ids))
    near = graph.distances == 1
    for end in (0, 1):
        np.maximum.at(best, graph.edges[near, end], graph.iou[near])
    sections, count = graph.sections, len(graph.starts) - 1
    pixels = np.bincount(sections, graph.sizes, count)
    return np.bincount(sections, best * graph.sizes, count) / np.maximum(pixels, 1)


def places_table(places: Sequence[Place], shown: Callable[[int], str]) -> list[page.Html]:
    """Doubtful places, with their numbers from 1 on as `shown` writes them."""
    text = page.paragraph(
        'A join holds two segments in one neuron that overlap little; a split keeps two apart that '
        'overlap much. First come those where most pixels may change hands, in turn.'
    )
    header = ['', 'kind', 'IoU', 'pixels of the smaller side', 'neurons', 'segments', 'z, y, x']
    rows = [
        [
            shown(number),
            place.kind,
            place.iou,
            place.pixels,
            ', '.join(map(str, sorted({place.neuron, place.other_neuron}))),
            f'{place.segment}, {place.other}',
            f'{place.z}, {place.y}, {place.x}',
        ]
        for number, place in enumerate(places, 1)
    ]
    return [text, page.table(header, rows)]
