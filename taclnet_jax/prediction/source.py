"""The volume and the network of a job, as each of its processes opens them."""

import hashlib
from dataclasses import replace

import jax
from flax.traverse_util import flatten_dict
from safetensors.numpy import save

from taclnet_jax.config import run_settings
from taclnet_jax.data.resolution import resampled
from taclnet_jax.errors import InputError
from taclnet_jax.inference import Model, load
from taclnet_jax.prediction.job import Job
from taclnet_jax.volumes import Sections, StoredArray, as_uint8_sections, open_array
from taclnet_jax.volumes.sections import Triple


def open_volume(path: str, dataset: str, voxel_nm: Triple | None) -> StoredArray:
    """A volume to be predicted; a voxel size that is given takes the place of its own."""
    stored = open_array(path, 'image', dataset)
    stored.resolution_nm = voxel_nm or stored.resolution_nm
    return stored


def open_input(job: Job) -> StoredArray:
    """The volume of a job."""
    return open_volume(job.input, job.dataset, job.voxel_nm)


def open_image(job: Job, stored: Sections | None = None) -> Sections:
    """The volume's grey values, 8 bits, in pixels of the model's size."""
    image = as_uint8_sections(stored or open_input(job), job.input)
    if job.zoom == (1, 1):
        return image
    return resampled(image, size_for_model(job, image.shape), order=1)


def size_for_model(job: Job, shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of a section in pixels of the model's size, of the volume's shape."""
    y, x = (max(round(n * zoom), 1) for n, zoom in zip(shape[1:], job.zoom, strict=True))
    return y, x


def model_of(job: Job, model: Model | None = None) -> Model:
    """The network, used as the job says.

    Raises:
        InputError: it has other parameters by now.
    """
    model = model or load(job.model)
    if fingerprint(model) != job.parameters:
        raise InputError(
            f'{job.model} has other parameters now, of step {model.step}, or cuts its maps '
            f'otherwise, than when the prediction began (step {job.step}). Start the command '
            'again, with --overwrite.'
        )
    settings = run_settings(job.settings)
    return model if model.settings == settings else replace(model, settings=settings)


def fingerprint(model: Model) -> str:
    """sha256 of a network's parameters, and of how its maps are cut."""
    arrays = flatten_dict(jax.device_get(model.variables), sep='/')
    return hashlib.sha256(save(arrays) + repr(sorted(model.chosen.items())).encode()).hexdigest()
