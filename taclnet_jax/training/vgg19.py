"""The weights of VGG19, out of an .npz."""

import math
import os
import zipfile
from collections.abc import Mapping

import numpy as np

from taclnet_jax.errors import InputError
from taclnet_jax.losses.perceptual import Params, convolutions, random_params

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def load_vgg19(path: str | os.PathLike[str] = '') -> Params:
    """The parameters of VGG19's first three blocks.

    Args:
        path: an `.npz` with the names of torchvision's state dict, `features.0.weight`
            (`[out, in, 3, 3]`), `features.0.bias` and so on. Where PyTorch is at hand,
            `numpy.savez(path, **torch.load('vgg19-dcbb9e9d.pth', weights_only=True))` makes it of
            that file. '' for random features: He-initialised from a fixed seed, so that they are
            the same in every run.

    Returns:
        {'conv1_1': {'kernel': `[3, 3, in, out]`, 'bias': `[out]`}, ...}

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    if not path:
        return random_params()
    params: Params = {}
    for name, index, inputs, features in convolutions():
        expected = {'weight': (features, inputs, 3, 3), 'bias': (features,)}
        shapes = {f'features.{index}.{part}': shape for part, shape in expected.items()}
        weight, bias = _read_npz(path, shapes)
        params[name] = {
            'kernel': np.asarray(weight, np.float32).transpose(2, 3, 1, 0),
            'bias': np.asarray(bias, np.float32),
        }
    return params


def _read_npz(
    path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]]
) -> list[np.ndarray]:
    """Arrays of these names and shapes; others are not read, however large they claim to be."""
    arrays = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name, shape in shapes.items():
                with archive.open(f'{name}.npy') as file:
                    read_header = _HEADERS[np.lib.format.read_magic(file)]
                    found, fortran, dtype = read_header(file)
                    if found != shape or dtype.kind != 'f' or dtype.itemsize > 8:
                        raise ValueError(f'{name} is {dtype} of shape {found}')
                    data = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
                    arrays.append(data.reshape(shape, order='F' if fortran else 'C'))
    # A damaged archive shows in zipfile, in zlib or in the parser of headers.
    except Exception as error:
        raise InputError(
            f"Expected {path} to be an .npz of torchvision's vgg19 weights, floats of shapes "
            f'{dict(shapes)} (docs/configuration.md says how to make one of a .pth file); found: '
            f'{error}'
        ) from error
    return arrays
