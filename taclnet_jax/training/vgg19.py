"""The weights of VGG19, out of an .npz."""

import os

import numpy as np

from taclnet_jax.errors import InputError
from taclnet_jax.losses.perceptual import Params, convolutions, random_params


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
    arrays = _read_npz(path)
    params: Params = {}
    for name, index, inputs, features in convolutions():
        weight, bias = (arrays.get(f'features.{index}.{part}') for part in ('weight', 'bias'))
        expected = [(features, inputs, 3, 3), (features,)]
        found = [None if array is None else array.shape for array in (weight, bias)]
        if weight is None or bias is None or found != expected:
            raise InputError(
                f'Expected {path} to hold features.{index}.weight and features.{index}.bias of '
                f"shapes {expected}; found {found}. Give torchvision's vgg19 weights."
            )
        params[name] = {
            'kernel': np.asarray(weight, np.float32).transpose(2, 3, 1, 0),
            'bias': np.asarray(bias, np.float32),
        }
    return params


def _read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        with open(path, 'rb') as opened, np.load(opened) as file:  # which unpickles nothing
            return {name: file[name] for name in file.files}
    # A damaged archive shows in zipfile, in zlib or in the parser of headers.
    except Exception as error:
        raise InputError(
            f'Expected {path} to be an .npz of arrays (docs/configuration.md says how to make one '
            f'of a .pth file); found: {error}'
        ) from error
