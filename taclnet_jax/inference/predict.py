"""Membrane, attention and segments of a stack of sections, from a trained network."""

from pathlib import Path

import numpy as np

from taclnet_jax.data.windows import targets_of
from taclnet_jax.inference.model import Model
from taclnet_jax.inference.sections import predict_sections
from taclnet_jax.progress import with_progress
from taclnet_jax.volumes import as_uint8_sections, open_array, write_stack


def predict_stack(
    model: Model, input_path: str, output: str | Path, dataset: str = ''
) -> dict[str, Path]:
    """Predicts a stack of sections of any size.

    Args:
        model: a trained network.
        input_path: a stack of at least as many sections as a window has, in any format of
            `taclnet_jax.volumes.open_array`, of the resolution of the model's volume; where the
            network sees half of it (`config.downsample` = 2), the maps are interpolated back.
        output: folder of the results, made if it is not there: membrane.tif (P), refined.tif
            (P_hat) and attention.tif (o), float32 in [0, 1]; segments.tif, the segments of each
            section by the model's `Cut`, 0 = membrane; and attention.png, the poster's Fig. 5 of
            the middle section.
        dataset: inside an HDF5, zarr or N5 file.

    Returns:
        The files by name.

    Raises:
        InputError: the model or the stack cannot be used, or a file cannot be written.
    """
    from taclnet_jax.figures import attention_panels  # matplotlib, for which training need not wait

    stored = open_array(input_path, 'image', dataset)
    image = as_uint8_sections(stored, str(input_path))
    depth = image.shape[0]
    cut = model.cut('P_hat_closed' if model.attends else 'P_closed')

    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    fields = {'membrane': 'prob', 'refined': 'refined', 'attention': 'attention'}
    maps = {name: np.empty(image.shape, np.float32) for name in fields}
    segments = np.empty(image.shape, np.int32)
    files = {name: folder / f'{name}.tif' for name in (*maps, 'segments')}
    files['picture'] = folder / 'attention.png'
    targets = targets_of([range(depth)])
    predicted = predict_sections(model.inference(), model.variables, image, targets)
    for section in with_progress(predicted, depth, 'sections', 'section'):
        z = section.section
        for name, field in fields.items():
            maps[name][z] = getattr(section, field)
        segments[z] = cut.segments(section.refined if model.attends else section.prob)
        if z == depth // 2:
            attention_panels(files['picture'], image[z], *section.attended, section.prob)
    for name, array in maps.items():
        write_stack(files[name], array, stored.resolution_nm)
    fits = segments.max() <= np.iinfo(np.uint16).max
    numbered = segments.astype(np.uint16 if fits else np.uint32)
    write_stack(files['segments'], numbered, stored.resolution_nm)
    return files
