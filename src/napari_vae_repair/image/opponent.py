"""Luminance and two opponent colours: most of what red, green and blue have in common lies in the first.

The three are orthonormal (Ohta et al. 1980, doi:10.1016/0146-664X(80)90047-7; so used by CBM3D, Dabov et al. 2007), so
that noise of one strength in all colours keeps its strength and independence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=np.float64)
TO_OPPONENT: NDArray[np.float32] = (_ROWS / np.linalg.norm(_ROWS, axis=1, keepdims=True)).astype(np.float32)


def to_opponent(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(N, 3, Y, X)`` red, green, blue to luminance and two differences of colour; other planes as they are."""
    return _rotated(planes, TO_OPPONENT)


def from_opponent(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of `to_opponent`."""
    return _rotated(planes, TO_OPPONENT.T)


def std_from_opponent(std: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviations ``(N, 3, Y, X)`` of independent opponent colours as those of red, green and blue."""
    return std if std.shape[1] != 3 else np.sqrt(_rotated(std * std, (TO_OPPONENT**2).T))


def _rotated(planes: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    if planes.shape[1] != len(matrix):
        return planes
    return np.moveaxis(np.tensordot(matrix, planes, axes=(1, 1)), 0, 1)
