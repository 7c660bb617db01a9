"""The weights of VGG19, out of torchvision's state dict or an .npz."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from taclnet_jax.errors import InputError
from taclnet_jax.losses.perceptual import Params, convolutions, random_params


def load_vgg19(path: str | os.PathLike[str] = '') -> tuple[Params, str]:
    """The parameters of VGG19's first three blocks.

    Args:
        path: torchvision's state dict (`vgg19-dcbb9e9d.pth`; any `.pth` that `torch.save` wrote,
            PyTorch itself is not needed) or an `.npz` with the same names, `features.0.weight`
            (`[out, in, 3, 3]`), `features.0.bias` and so on. '' for random features: He-initialised
            from a fixed seed, so that they are the same in every run.

    Returns:
        ({'conv1_1': {'kernel': `[3, 3, in, out]`, 'bias': `[out]`}, ...}, where they come from, for
        logs and tables).

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    if not path:
        return random_params(), 'random VGG19 features (no weights given)'
    path = Path(path)
    arrays = _read_npz(path) if path.suffix == '.npz' else read_state_dict(path)
    params: Params = {}
    for name, index, inputs, features in convolutions():
        weight, bias = (arrays.get(f'features.{index}.{part}') for part in ('weight', 'bias'))
        expected = [(features, inputs, 3, 3), (features,)]
        found = [None if array is None else array.shape for array in (weight, bias)]
        if weight is None or bias is None or found != expected:
            raise InputError(
                f'Expected {path} to hold features.{index}.weight and features.{index}.bias of '
                f"shapes {expected}; found {found}. Give torchvision's vgg19 state dict."
            )
        params[name] = {
            'kernel': np.asarray(weight, np.float32).transpose(2, 3, 1, 0),
            'bias': np.asarray(bias, np.float32),
        }
    return params, f'VGG19 features of {path.name}'


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f'Cannot read the arrays of {path}: {error}') from error


_DTYPES = {
    'FloatStorage': np.float32,
    'DoubleStorage': np.float64,
    'HalfStorage': np.float16,
    'LongStorage': np.int64,
}


_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a state dict that `torch.save` wrote, in its present or its old format.

    The pickle inside may name tensors and nothing else: the file runs no code.

    Raises:
        InputError: the file cannot be read, is something else, or wants more than tensors.
    """
    try:
        with open(path, 'rb') as file:
            if zipfile.is_zipfile(file):
                state = _read_zip(file)
            else:
                file.seek(0)
                state = _read_legacy(file)
    except (
        OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile,
        ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise InputError(
            f'Expected {path} to be a state dict as torch.save writes it; found: {error}'
        ) from error
    if not isinstance(state, dict) or not all(isinstance(x, np.ndarray) for x in state.values()):
        raise InputError(f'Expected {path} to be a state dict: tensors by name, and nothing else.')
    return {str(name): np.array(tensor) for name, tensor in state.items()}


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
        folder = pickled.removesuffix('data.pkl')

        def storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
            values = np.frombuffer(archive.read(f'{folder}data/{key}'), dtype)
            if values.size != count:
                raise ValueError(f'storage {key} holds {values.size} numbers instead of {count}')
            return values

        return _Unpickler(io.BytesIO(archive.read(pickled)), storage).load()


def _read_legacy(file: BinaryIO) -> Any:
    """Magic number, version, machine and state dict as pickles; then all storages in a row."""

    def no_storage(*_: Any) -> np.ndarray:
        raise ValueError('a tensor out of place')

    if _Unpickler(file, no_storage).load() != _LEGACY_MAGIC:
        raise ValueError('neither a zip archive nor the magic number of older files')
    for _ in range(2):
        _Unpickler(file, no_storage).load()
    size = os.fstat(file.fileno()).st_size
    storages: dict[str, np.ndarray] = {}

    def storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
        if not 0 <= count * dtype.itemsize <= size:
            raise ValueError(f'a storage of {count} numbers in a file of {size} bytes')
        # Filled below; tensors are views of it.
        return storages.setdefault(key, np.empty(count, dtype))

    state = _Unpickler(file, storage).load()
    for key in _Unpickler(file, no_storage).load():
        (count,) = np.fromfile(file, '<i8', 1)
        if count != storages[key].size:
            raise ValueError(f'storage {key} holds {count} numbers instead of {storages[key].size}')
        storages[key][:] = np.fromfile(file, storages[key].dtype, count)
    return state


class _Parameter(np.ndarray):
    """Stands for `torch.nn.Parameter`, which files of 2017 name; only its tensor is kept."""

    def __new__(cls, data: np.ndarray, *_: Any) -> _Parameter:
        return data.view(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(
    storage: np.ndarray, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> np.ndarray:
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= storage.size):
        raise ValueError(f'a tensor of size {tuple(size)} beyond its {storage.size} numbers')
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides)


class _Unpickler(pickle.Unpickler):
    """Rebuilds tensors as arrays and refuses every other class or function."""

    _ALLOWED = {
        ('collections', 'OrderedDict'): OrderedDict,
        ('torch._utils', '_rebuild_tensor'): _tensor,
        ('torch._utils', '_rebuild_tensor_v2'): _tensor,
        ('torch._utils', '_rebuild_parameter'): _Parameter,
        ('torch.nn.parameter', 'Parameter'): _Parameter,
    } | {('torch', name): np.dtype(dtype) for name, dtype in _DTYPES.items()}

    def __init__(self, file: BinaryIO, storage: Callable[..., np.ndarray]) -> None:
        super().__init__(file, encoding='latin-1')  # for files of Python 2
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f'{module}.{name} is not a tensor')
        return self._ALLOWED[module, name]

    def persistent_load(self, identifier: Any) -> np.ndarray:
        kind, dtype, key, _, count, *view = identifier
        if kind != 'storage' or any(view):  # a view of a storage: PyTorch 0.1 had them
            raise pickle.UnpicklingError(f'{identifier} is not a whole storage')
        return self._storage(dtype, key, count)
