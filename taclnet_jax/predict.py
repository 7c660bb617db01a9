"""Membrane, attention and segments of a stack of sections, from a trained network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from taclnet_jax.checkpoints import best_params
from taclnet_jax.config import check_config
from taclnet_jax.data.windows import targets_of
from taclnet_jax.errors import InputError
from taclnet_jax.figures import attention_panels
from taclnet_jax.inference import create_inference, predict_sections
from taclnet_jax.metrics import grow_segments, segment
from taclnet_jax.models import create_model
from taclnet_jax.reporting import with_progress
from taclnet_jax.volumes import as_uint8_sections, open_array, write_stack


def predict(
    config: Any, workdir: Path, input_path: str, dataset: str, output: str
) -> dict[str, Path]:
    """Predicts a stack of sections of any size with a run's best network.

    Args:
        config: of the run.
        workdir: of the run.
        input_path: a stack of at least `config.slices` sections in any format of
            `taclnet_jax.volumes.open_array`, of the resolution of the run's volume; where the run
            works at half of it (`config.downsample` = 2), the maps are interpolated back.
        dataset: inside an HDF5, zarr or N5 file.
        output: folder of the results, made if it is not there: membrane.tif (P), refined.tif
            (P_hat) and attention.tif (o), float32 in [0, 1]; segments.tif, the 4-connected
            pieces of cell of each section, numbered section by section, 0 = membrane; cells.tif,
            such pieces grown until they touch, at the threshold that is best for that; and
            attention.png, the poster's Fig. 5 of the middle section.

    Returns:
        The files by name.

    Raises:
        InputError: the run or the stack cannot be used, or a file cannot be written.
    """
    check_config(config)
    stored = open_array(input_path, 'image', dataset)
    image = as_uint8_sections(stored, str(input_path))
    depth = image.shape[0]
    refines = config.attention.kind != 'none'
    name = 'P_hat' if refines else 'P'
    threshold = run_threshold(config, workdir, name)
    grown_threshold = run_threshold(config, workdir, name, 'threshold_grown')
    _, params = best_params(workdir, config)
    infer = create_inference(config, create_model(config), config.evaluate.views)

    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    names = ('membrane', 'refined', 'attention')
    maps = {name: np.empty(image.shape, np.float32) for name in names}
    numbered = {name: np.empty(image.shape, np.int32) for name in ('segments', 'cells')}
    files = {name: folder / f'{name}.tif' for name in (*maps, *numbered)}
    files['picture'] = folder / 'attention.png'
    targets = targets_of([range(depth)])
    predicted = predict_sections(infer, params, image, targets)
    for section in with_progress(predicted, depth, 'sections', 'section'):
        z = section.section
        for name, part in (
            ('membrane', section.prob),
            ('refined', section.refined),
            ('attention', section.attention),
        ):
            maps[name][z] = part
        scored = maps['refined' if refines else 'membrane'][z]
        numbered['segments'][z] = segment(scored, threshold)
        numbered['cells'][z] = grow_segments(segment(scored, grown_threshold))
        if z == depth // 2:
            attention_panels(
                files['picture'],
                image[z],
                section.critical_map,
                section.attention,
                section.refined,
                section.prob,
            )
    for name, array in maps.items():
        write_stack(files[name], array, stored.resolution_nm)
    for name, segments in numbered.items():
        fits = segments.max() <= np.iinfo(np.uint16).max
        kind = np.uint16 if fits else np.uint32
        write_stack(files[name], segments.astype(kind), stored.resolution_nm)
    return files


def run_threshold(config: Any, workdir: Path, name: str, which: str = 'threshold') -> float:
    """A threshold of P or P_hat: fixed in the configuration, or found when the run was scored."""
    if config.evaluate.threshold_from == 'fixed':
        return config.evaluate.threshold
    path = workdir / 'results.json'
    try:
        return json.loads(path.read_text())[name][which]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f'Expected the threshold that evaluation chose in {path}, but it cannot be read; '
            'evaluate the run first with --mode=evaluate.'
        ) from error
