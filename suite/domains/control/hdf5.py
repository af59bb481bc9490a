"""Columns of HDF5 files: of plain numbers, of one length, inside the file itself.

Shapes: T steps of all episodes, O observation entries, D action entries.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.config.fields import ConfigError


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading; raises ConfigError where it leads to other files."""
    import h5py

    with h5py.File(path) as file:
        check_contained(file, str(path))
        yield file


def check_contained(group: Any, where: str) -> None:
    """Raise ConfigError where a file's content lies elsewhere: data are read, never followed."""
    import h5py

    for name in group:
        here = f"{where}: {group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            kind = type(link).__name__
            raise ConfigError(f"{here}: is a link ({kind}), which is not followed; copy its data")
        item = group[name]
        if isinstance(item, h5py.Group):
            check_contained(item, where)
        elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            raise ConfigError(f"{here}: its values lie in other files, which are not read")


def matrix(values: Any, where: str) -> NDArray[np.float32]:
    """Return a column with one vector per step, [T, n]; numbers become vectors of one entry.

    Raises ConfigError for what is not a finite number.
    """
    array = finite(values, where)
    if array.ndim == 0:
        raise ConfigError(f"{where}: must have one entry per step, found a single number")
    return array.reshape(len(array), -1)


def vector(values: Any, where: str) -> NDArray[np.float32]:
    """Return a column with one number per step, [T], also from [T, 1]; raises ConfigError."""
    array = finite(values, where)
    if array.ndim == 0 or array.size != len(array):
        raise ConfigError(f"{where}: must be one number per step, found shape {array.shape}")
    return array.reshape(-1)


def flags(values: Any, where: str) -> NDArray[np.bool_]:
    """Return a column of true and false, [T], also from 0 and 1; raises ConfigError."""
    array = vector(values, where)
    if not np.isin(array, (0, 1)).all():
        other = array[~np.isin(array, (0, 1))][0]
        raise ConfigError(f"{where}: must be true or false, or 1 or 0, found {other:g}")
    return array.astype(bool)


def finite(values: Any, where: str) -> NDArray[np.float32]:
    """Return numbers as float32; raises ConfigError for other kinds, NaN and infinity."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ConfigError(f"{where}: must hold numbers, found {array.dtype}")
    with np.errstate(over="ignore"):  # what overflows is infinite, and told below
        array = array.astype(np.float32)
    bad = ~np.isfinite(array)
    if bad.any():
        first = np.argwhere(bad)[0]
        step = int(first[0]) if len(first) else 0
        raise ConfigError(
            f"{where}: must be finite numbers, found {array[tuple(first)]} at step {step}"
        )
    return array


def check_lengths(columns: dict[str, NDArray[Any]], where: str) -> None:
    """Raise ConfigError unless all columns have equally many steps."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise ConfigError(f"{where}: columns must have one length, found {found}")
