"""The volume and the network of a job, as each of its processes opens them."""

from dataclasses import replace

from taclnet_jax.config import run_settings
from taclnet_jax.data.resolution import resampled
from taclnet_jax.errors import InputError
from taclnet_jax.inference import Model, load
from taclnet_jax.prediction.job import Job
from taclnet_jax.volumes import Sections, StoredArray, as_uint8_sections, open_array


def open_input(job: Job) -> StoredArray:
    """The volume."""
    return open_array(job.input, 'image', job.dataset)


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
        InputError: the run has another best checkpoint by now.
    """
    model = model or load(job.model)
    if model.step != job.step:
        raise InputError(
            f'Expected the parameters of step {job.step} in {job.model}, with which the '
            f'prediction began; found those of step {model.step}. Begin anew, with --overwrite.'
        )
    settings = run_settings(job.settings)
    return model if model.settings == settings else replace(model, settings=settings)
