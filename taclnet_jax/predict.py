"""Membrane, attention and segments of a TIFF stack, from a trained network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from taclnet_jax.checkpoints import Checkpoints
from taclnet_jax.config import check_config
from taclnet_jax.data.volume import Volume
from taclnet_jax.errors import InputError
from taclnet_jax.figures import attention_panels
from taclnet_jax.inference import create_inference, predict_sections
from taclnet_jax.metrics import segment
from taclnet_jax.models import create_model
from taclnet_jax.reporting import Progress
from taclnet_jax.volumes import as_uint8_image, read_stack, write_stack


def predict(config: Any, workdir: Path, input_path: str, output: str) -> dict[str, Path]:
    """Predicts a stack of sections of any size with a run's best network.

    Args:
        config: of the run.
        workdir: of the run.
        input_path: a TIFF stack, at least `config.slices` sections.
        output: folder of the results, made if it is not there: membrane.tif (P), refined.tif
            (P_hat) and attention.tif (o), float32 in [0, 1]; segments.tif, the 4-connected
            pieces of cell of each section, numbered section by section, 0 = membrane; and
            attention.png, the poster's Fig. 5 of the middle section.

    Returns:
        The files by name.

    Raises:
        InputError: the run or the stack cannot be used, or a file cannot be written.
    """
    check_config(config)
    image = as_uint8_image(read_stack(input_path), str(input_path))
    volume = Volume(str(input_path), image, None, None, (1.0, 1.0, 1.0))
    refines = config.attention.kind != 'none'
    threshold = run_threshold(config, workdir, 'P_hat' if refines else 'P')
    checkpoints = Checkpoints(workdir, config)
    _, params = checkpoints.restore_best_params()
    checkpoints.close()
    infer = create_inference(config, create_model(config))

    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    names = ('membrane', 'refined', 'attention')
    maps = {name: np.empty(image.shape, np.float32) for name in names}
    segments = np.empty(image.shape, np.int32)
    files = {name: folder / f'{name}.tif' for name in (*maps, 'segments')}
    files['picture'] = folder / 'attention.png'
    progress = Progress(0, len(image), unit='section')
    for section in predict_sections(infer, params, volume, (range(len(image)),), config.slices):
        z = section.section
        maps['membrane'][z] = section.prob
        maps['refined'][z] = section.refined
        maps['attention'][z] = section.attention
        segments[z] = segment(section.refined if refines else section.prob, threshold)
        if z == len(image) // 2:
            attention_panels(
                files['picture'],
                image[z],
                section.critical_map,
                section.attention,
                section.refined,
                section.prob,
            )
        progress.step('sections')
    progress.close()
    for name, array in maps.items():
        write_stack(files[name], array)
    fits = segments.max() <= np.iinfo(np.uint16).max
    write_stack(files['segments'], segments.astype(np.uint16 if fits else np.uint32))
    return files


def run_threshold(config: Any, workdir: Path, name: str) -> float:
    """The threshold of P or P_hat: fixed in the configuration, or found when the run was scored."""
    if config.evaluate.threshold_from == 'fixed':
        return config.evaluate.threshold
    path = workdir / 'results.json'
    try:
        return json.loads(path.read_text())[name]['threshold']
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f'Expected the threshold chosen on training sections in {path}, but it cannot be read; '
            'evaluate the run first with --mode=evaluate.'
        ) from error
