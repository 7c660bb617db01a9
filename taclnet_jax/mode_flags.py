"""The flags of the modes of the command line, defined only where it is one.

What they default to is imported late: it brings JAX, which --help and mistakes need not wait for.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags

from taclnet_jax.commandline import check_taken
from taclnet_jax.errors import InputError

_TAKEN = {
    'train': 'config workdir distributed coordinator num_processes process_index',
    'evaluate': 'config workdir',
    'predict': 'config workdir model input output input_dataset names dtype format box mask '
    'mask_dataset voxel_nm resample force overwrite scratch workers worker_command dry_run',
    'segment': 'input output input_dataset mask mask_dataset voxel_nm format overwrite '
    'join_threshold',
    'view': 'input host port voxel_nm',
    'export': 'workdir output overwrite',
}
MODES = {mode: names.split() for mode, names in _TAKEN.items()}
"""Which flags a mode takes, beside --mode and --strict."""


def flags_of_modes() -> str:
    """What --help says of `MODES`."""
    wrapper = textwrap.TextWrapper(98, subsequent_indent=' ' * 13, break_on_hyphens=False)
    lines = ['Of the flags below each mode takes these, and --strict:']
    for mode, names in MODES.items():
        wrapper.initial_indent = f'  {mode:<11}'
        lines.append(wrapper.fill(' '.join(f'--{name}' for name in names)))
    return '\n'.join(lines)


def check_given(mode: str, defined: Sequence[flags.FlagHolder[Any]]) -> None:
    """Refuses flags on the command line that would say nothing there.

    Raises:
        InputError: a flag is of other modes, or of another flag that was not given.
    """
    given = check_taken(f'--mode={mode}', [*MODES[mode], 'strict', 'mode'], defined)
    if 'mask_dataset' in given and 'mask' not in given:
        raise InputError('Expected --mask, the file that --mask_dataset lies in; found none.')


def define_processes() -> list[flags.FlagHolder[Any]]:
    """The flags of training in several processes: whether, and as `run_together` takes them."""
    return [
        flags.DEFINE_bool(
            'distributed', False, 'Train as one of several processes, as SLURM or a TPU tells.'
        ),
        flags.DEFINE_string(
            'coordinator', None, 'host:port of the first of several processes, with the next two.'
        ),
        flags.DEFINE_integer(
            'num_processes', None, 'How many processes train together.', lower_bound=1
        ),
        flags.DEFINE_integer(
            'process_index', None, 'Which of them this is, from 0.', lower_bound=0
        ),
    ]


def define_prediction() -> list[flags.FlagHolder[Any]]:
    """The flags of --mode=predict, by the names that `prediction.predict.Options` has.

    Other modes take some of them too.
    """
    from taclnet_jax.prediction.job import DTYPES, NAMES
    from taclnet_jax.volumes import FORMATS

    return [
        flags.DEFINE_string('input_dataset', '', 'Of --input, inside HDF5, zarr or N5.'),
        flags.DEFINE_list(
            'names', [], f'What to write, of {", ".join(NAMES)}; by default refined and segments.'
        ),
        flags.DEFINE_enum('dtype', 'uint8', DTYPES, 'Of the maps; in uint8 255 stands for 1.'),
        flags.DEFINE_enum('format', 'tiff', FORMATS, 'Of what is written.'),
        flags.DEFINE_string(
            'box', '', 'What to predict: z0:z1,y0:y1,x0:x1 in voxels, or in nm with nm at the end.'
        ),
        flags.DEFINE_string(
            'mask', '', 'Volume of the same size; blocks in which it is 0 throughout are left out.'
        ),
        flags.DEFINE_string('mask_dataset', '', 'Its dataset, inside HDF5, zarr or N5.'),
        flags.DEFINE_list(
            'voxel_nm', [], 'Voxel size of --input, z,y,x, where it says none, or a wrong one.'
        ),
        flags.DEFINE_bool('resample', False, "Predict at the model's voxel size, and come back."),
        flags.DEFINE_bool('force', False, 'Predict in spite of another voxel size.'),
        flags.DEFINE_bool('overwrite', False, 'Replace what an earlier call left in --output.'),
        flags.DEFINE_string(
            'scratch', '', 'Folder of unfinished work; beside --output by default.'
        ),
        flags.DEFINE_integer('workers', 1, 'Processes that share the blocks.', lower_bound=1),
        flags.DEFINE_string('worker_command', '', "Starts each of them, such as 'srun -n1'."),
    ]


def define_neurons() -> list[flags.FlagHolder[Any]]:
    """The flags of --mode=segment that no other mode has, by their names in its `Options`."""
    from taclnet_jax.neurons import THRESHOLD

    meaning = 'Least IoU of two segments that are joined, 0 to 1.'
    return [flags.DEFINE_float('join_threshold', THRESHOLD, meaning, 0, 1)]


def define_view() -> list[flags.FlagHolder[Any]]:
    """The flags of --mode=view that no other mode has, by their names in `viewing.serving`."""
    return [
        flags.DEFINE_string(
            'host', '127.0.0.1', 'Where to serve; by default for programs of this machine alone.'
        ),
        flags.DEFINE_integer('port', 0, '0 for any free one.', 0, 65535),
    ]
