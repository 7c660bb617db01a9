"""Predicts a volume of any size."""

import contextlib
import dataclasses
import json
import math
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taclnet_jax.config.schema import as_nested
from taclnet_jax.data.windows import check_slices, cut
from taclnet_jax.errors import InputError, doubt
from taclnet_jax.files import replacing
from taclnet_jax.inference import SEGMENTED, Model
from taclnet_jax.lock import locked
from taclnet_jax.prediction.engine import run_pass
from taclnet_jax.prediction.export import Export
from taclnet_jax.prediction.job import DTYPES, NAMES, Job
from taclnet_jax.prediction.layout import Layout
from taclnet_jax.prediction.needed import active_windows, needed_blocks
from taclnet_jax.prediction.numbering import Numbering
from taclnet_jax.prediction.older import named_files, same_prediction
from taclnet_jax.prediction.output import create_output
from taclnet_jax.prediction.passes import Passes
from taclnet_jax.prediction.source import fingerprint, open_image, open_volume
from taclnet_jax.prediction.unchanged import check_unchanged, stamps
from taclnet_jax.prediction.voxel_size import model_pixels
from taclnet_jax.volumes import StoredArray, absolute_path, check_axis_order, open_array
from taclnet_jax.volumes.sections import listed
from taclnet_jax.volumes.units import given_nm


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is predicted of a volume, and how.

    Attributes:
        names: of `NAMES`; by default refined, and the segments that are made of it.
        dtype: of the maps: uint8, with 255 for 1, or float32.
        format: of the results, of `taclnet_jax.volumes.FORMATS`.
        input_dataset: the volume inside an HDF5, zarr or N5 file.
        box: of what is to be predicted, 'z0:z1,y0:y1,x0:x1' in voxels, or in nm with 'nm' at its
            end, which count from the volume's offset; '' for all. The network sees the data around
            it; attention and closing end with the windows that it has pixels in.
        mask: a volume of the same size; blocks in which it is 0 throughout are left out.
        mask_dataset: inside its file.
        voxel_nm: (z, y, x), in place of what the volume says of its voxel size; () = that.
        resample: predict at the voxel size of the model's volume, and come back.
        force: predict in spite of another voxel size.
        overwrite: replace an older prediction, and unfinished work of another one.
        scratch: folder of what is needed until the end; by default beside the output, or in the
            current folder where the output is an address.
        block: sections, and windows along a side, that are done or not as a whole.
        workers: processes that share the blocks.
        worker_command: starts each of them, such as 'srun -n1'; '' for processes of this machine.
    """

    names: Sequence[str] = ()
    dtype: str = 'uint8'
    format: str = 'tiff'
    input_dataset: str = ''
    box: str = ''
    mask: str = ''
    mask_dataset: str = ''
    voxel_nm: Sequence[float | str] = ()
    resample: bool = False
    force: bool = False
    overwrite: bool = False
    scratch: str = ''
    block: tuple[int, int] = (8, 1)
    workers: int = 1
    worker_command: str = ''


def predict_volume(
    model: Model, input_path: str, output: str | Path, options: Options = Options()
) -> dict[str, str]:
    """Predicts a volume of any size, in blocks; called again after an interruption, it goes on.

    Args:
        model: a trained network, `load(place)`, maybe with other settings of its use.
        input_path: at least as many sections as the network sees together, in any format of
            `taclnet_jax.volumes.open_array`.
        output: folder of the results, or its address in the cloud (gs://, s3://).
        options: what is predicted, and how.

    Returns:
        The files or folders by name.

    Raises:
        InputError: the model or the volume cannot be used, something is in the way, blocks failed,
            or a file cannot be written.
    """
    place = create_output(output, options.format)
    command = _words(options.worker_command)
    job = describe(model, input_path, options)
    scratch = Path(options.scratch or place.scratch).resolve()
    if not scratch.name:
        raise InputError(f'Expected --scratch as a folder with a name, found {scratch}.')
    export = Export(job, options.format)
    busy = (
        f'Expected {scratch} for this command alone; {{holder}} is working in it. Wait until that '
        'ends, or stop it; or choose another --output and --scratch.'
    )
    lock = scratch.with_name(f'{scratch.name}.lock')
    # This command was killed when all was written, and its work not yet removed.
    if os.path.exists(_done(scratch)):  # which no name is too long for
        with locked(lock, busy):
            shutil.rmtree(_done(scratch), ignore_errors=True)
        found = place.about()
        if not options.overwrite and same_prediction(found, export.about):
            return {name: place.path(file) for name, file in named_files(found).items()}
    place.check(export.about, scratch, options.overwrite)
    with locked(lock, busy), _kept_in(scratch):
        begin(scratch, job, model, options.overwrite)
        check_unchanged(scratch, model, job.stamps)
        passes = Passes(scratch, model)
        needed = needed_blocks(passes.layout, passes.active)
        needed['measure'] = np.ones(passes.measured, bool)
        for name in ('measure', *passes_of(job)):
            run_pass(passes, name, needed[name], options.workers, command)
        check_unchanged(scratch, model, stamps(job.input, job.mask))
        numbering = None
        if 'segments' in job.names:
            numbering = Numbering(passes.layout, scratch, needed['finish'])
        with place.new(export.about, scratch, options.overwrite) as folder:
            files = export.write(folder, passes, numbering)
        scratch.rename(_done(scratch))
        shutil.rmtree(_done(scratch))
    return {name: place.path(file) for name, file in files.items()}


def _done(scratch: Path) -> Path:
    """The name of the folder of a job while it is removed."""
    return scratch.with_name(f'{scratch.name}.done')


@contextlib.contextmanager
def _kept_in(scratch: Path) -> Iterator[None]:
    """Tells whoever interrupts the work that it is not lost."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(f'What is done is kept in {scratch}; the same command goes on.')
        raise


def passes_of(job: Job) -> tuple[str, ...]:
    """The passes that do each window of a job, in their order, after `measure`."""
    return ('predict', 'attend', 'finish') if job.attends else ('predict', 'finish')


def describe(model: Model, input_path: str, options: Options) -> Job:
    """The job, checked.

    Raises:
        InputError: see `predict_volume`.
    """
    names = options.names or ('refined', 'segments')
    for name in names:
        _check_choice('names', name, NAMES)
    _check_choice('dtype', options.dtype, DTYPES)
    if min(options.block) < 1:
        raise InputError(
            f'Expected a block of at least 1 section and 1 window, found {options.block}.'
        )
    voxel_nm = given_nm(options.voxel_nm)
    source = open_volume(input_path, options.input_dataset, voxel_nm)
    check_axis_order(source.shape, source.resolution_nm, input_path)
    slices, depth = model.settings.sampling.slices, source.shape[0]
    check_slices([range(depth)], slices)
    box = _box(options.box, source)
    (first, stop), *_ = box
    pieces = [p for p in cut(range(depth), source.gaps) if p.start < stop and p.stop > first]
    if short := [p for p in pieces if len(p) < slices]:
        where = listed([f'{p.start} to {p.stop - 1}' for p in short], 5)
        doubt(
            f'Between missing sections of {input_path} lie fewer than the {slices} that the '
            f'network sees together: {where} (counted from 0). What lacks is repeated to predict '
            'these, which no training saw.'
        )
    zoom = model_pixels(model, source, options.resample, options.force)
    if options.mask:
        _check_mask(source, open_array(options.mask, 'mask', options.mask_dataset))
    path, mask = absolute_path(input_path), absolute_path(options.mask)
    return Job(
        model=str(model.place.absolute()),
        step=model.step,
        parameters=fingerprint(model),
        settings=json.loads(json.dumps(as_nested(model.settings))),  # as it is read again
        input=path,
        dataset=options.input_dataset,
        shape=source.shape,
        gaps=source.gaps,
        box=box,
        mask=mask,
        mask_dataset=options.mask_dataset,
        voxel_nm=voxel_nm,
        zoom=zoom,
        cut=model.cut(SEGMENTED) if 'segments' in names else None,
        names=tuple(name for name in NAMES if name in names),
        dtype=options.dtype,
        attends=bool({'refined', 'attention', 'segments'} & set(names)),
        block=options.block,
        stamps=stamps(path, mask),
    )


def begin(scratch: Path, job: Job, model: Model, overwrite: bool) -> None:
    """Makes the folder of a job, or opens it if it holds the same one.

    Raises:
        InputError: it holds another job, or something else.
    """
    other = _unfinished(scratch)
    if other == job:
        return
    if other is not None and not overwrite:
        changed = [
            field.name
            for field in dataclasses.fields(job)
            if field.compare and getattr(job, field.name) != getattr(other, field.name)
        ]
        raise InputError(
            f'{scratch} holds a prediction of other {", ".join(changed)} that was not finished. '
            'Start its command again to go on, or begin this one with --overwrite.'
        )
    if scratch.exists():
        shutil.rmtree(scratch)
    layout = Layout(job, open_image(job).shape, model.inference)
    with replacing(scratch) as folder:
        folder.mkdir()
        job.write(folder / 'job.json')
        np.savez(folder / 'active.npz', active=active_windows(job, layout))


def _unfinished(scratch: Path) -> Job | None:
    """The job that a folder holds; None where there is nothing."""
    if not scratch.exists() or (scratch.is_dir() and not any(scratch.iterdir())):
        return None
    try:
        return Job.read(scratch / 'job.json')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'Expected {scratch} to be the folder of this prediction, found something else, or '
            'that of another version. Choose another folder with --scratch, or remove it.'
        ) from error


def _box(box: str, source: StoredArray) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """First and end voxel along z, y and x."""
    if not box:
        z, y, x = ((0, size) for size in source.shape)
        return z, y, x
    sides = box.replace(' ', '').split(',')
    marked = [side.endswith('nm') for side in sides]
    in_nm = marked[-1] and sum(marked) in (1, len(sides))
    if in_nm and source.resolution_nm is None:
        raise InputError(
            f'Expected --box in voxels, as {source.name} does not say its voxel size; found {box}. '
            'Or give that size with --voxel_nm.'
        )
    wrong = InputError(
        f'Expected --box=z0:z1,y0:y1,x0:x1 within the volume of {source.shape} voxels, each end '
        f'above its start, or the same in nm with nm at the end; found {box}.'
    )
    try:
        ends = [
            [float(end) if in_nm else int(end) for end in side.split(':')]
            for side in (side.removesuffix('nm' * in_nm) for side in sides)
        ]
        if in_nm:
            offset_nm = source.offset_nm or (0.0, 0.0, 0.0)
            ends = [
                [math.floor((first - o) / nm + 1e-6), math.ceil((stop - o) / nm - 1e-6)]
                for (first, stop), o, nm in zip(
                    ends, offset_nm, source.resolution_nm or (), strict=True
                )
            ]
        z, y, x = ((int(first), int(stop)) for first, stop in ends)
    except (ValueError, OverflowError) as error:
        raise wrong from error
    if not all(0 <= a < b <= n for (a, b), n in zip((z, y, x), source.shape, strict=True)):
        raise wrong
    return z, y, x


def _check_mask(source: StoredArray, mask: StoredArray) -> None:
    if mask.shape != source.shape:
        raise InputError(
            f'Expected a mask of the size of the volume, {source.shape}; found {mask.shape} in '
            f'{mask.name}.'
        )


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f'Expected the {what} to be one of {", ".join(choices)}; found {value!r}.')


def _words(command: str) -> list[str]:
    """Of a command line."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise InputError(
            f'Expected --worker_command as a shell takes it, found {command!r}: {error}.'
        ) from error
