"""Whether a volume has voxels of the size that a model was trained on."""

from taclnet_jax.data.volume import OTHER_SIZE, SAME_SIZE
from taclnet_jax.errors import InputError, doubt
from taclnet_jax.inference import Model
from taclnet_jax.volumes import StoredArray


def model_pixels(
    model: Model, source: StoredArray, resample: bool, force: bool
) -> tuple[float, float]:
    """Pixels of the model's size in one of the volume, along y and x; (1, 1) without resampling.

    Args:
        model, source: what predicts, and of what.
        resample: whether it predicts at its own size in y and x.
        force: whether other sizes are no error.

    Raises:
        InputError: the sizes are too different, or not known to resample.
    """
    theirs, ours = source.resolution_nm, model.resolution_nm
    if theirs is None or ours is None:
        if resample:
            missing, advice = 'the run', 'Leave --resample out, or evaluate it.'
            if theirs is None:
                missing, advice = source.name, 'Give it with --voxel_nm=z,y,x.'
            raise InputError(
                f'Expected voxel sizes for --resample; {missing} does not say its own. {advice}'
            )
        if ours is not None and not force:
            doubt(
                f'{source.name} does not say its voxel size. It is taken for that of the data '
                f'that the model was trained on, {ours} nm (z, y, x); --voxel_nm=z,y,x says it.'
            )
        return 1.0, 1.0
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    z, *sides = (max(r, 1 / r) for r in ratios)
    side = 1.0 if resample else max(sides)
    if not force and max(z, side) >= OTHER_SIZE:
        raise InputError(
            f'Expected voxels of about {ours} nm (z, y, x), on which the model was trained; found '
            f'{theirs} nm in {source.name}. {_advice(z, side)}'
        )
    if max(z, side) >= SAME_SIZE:
        resampled = ' --resample predicts at the size of the model in y and x.'
        doubt(
            f'The model was trained on voxels of {ours} nm (z, y, x), and those of {source.name} '
            f'are of {theirs} nm.{resampled if side >= SAME_SIZE else ""}'
        )
    return (ratios[1], ratios[2]) if resample else (1.0, 1.0)


def _advice(z: float, side: float) -> str:
    """What to do about voxels so many times as large or small, along z, and along y or x."""
    if z < OTHER_SIZE:
        return (
            "Predict at the model's size in y and x with --resample, or in spite of it with "
            '--force.'
        )
    other = '' if side < OTHER_SIZE else ", and at the model's size in y and x with --resample"
    return f'The distance of sections is not resampled: predict in spite of it with --force{other}.'
