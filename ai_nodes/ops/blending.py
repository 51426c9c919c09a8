"""The running weighted mean of overlapping windows, in place: on the processor or on a card."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ai_nodes.ops.device import Budget, Device
from ai_nodes.ops.windows import Window, WindowSettings, gaussian
from dicom_services.errors import InputError

Array = NDArray[np.float32]
_FLOAT_BYTES: Final = 4


class HostBlend:
    """A volume that windows are cut from, and the mean of what was said about each voxel.

    The mean moves by w / (sum of w) of the difference, so that windows which agree give exactly
    the value they agree on, and nothing is left to divide at the end.
    """

    def __init__(self, volume: Array, settings: WindowSettings, budget: Budget) -> None:
        self._volume, self._settings, self._budget = volume, settings, budget
        self._along = gaussian(settings.window, settings.sigma)
        self._batch = np.empty((settings.batch, len(volume), *settings.window), np.float32)
        self._mean: Array | None = None
        self._weight = np.zeros(volume.shape[1:], np.float32)

    def cut(self, windows: list[Window], *, whole: bool) -> Array:
        """The windows as the next batch, mirrored; all rows of it where `whole`."""
        for row, window in zip(self._batch, windows, strict=False):
            axes = tuple(axis + 1 for axis in window.mirrored)
            row[...] = np.flip(self._volume[(slice(None), *window.place)], axes)
        return self._batch if whole else self._batch[: len(windows)]

    def fold(self, out: Array, windows: list[Window]) -> None:
        """Fold (n, classes, window) into the mean of all so far."""
        require_shape(out, self._settings)
        if self._mean is None:
            shape = (out.shape[1], *self._weight.shape)
            mean_bytes = int(np.prod(shape)) * _FLOAT_BYTES
            held_bytes = self._weight.nbytes + self._batch.nbytes + out.nbytes
            if mean_bytes + held_bytes > self._budget.bytes:
                raise MemoryError
            self._mean = np.zeros(shape, np.float32)
        for said, window in zip(out, windows, strict=False):
            starts = tuple(part.start for part in window.place)
            mirrored = tuple(axis in window.mirrored for axis in range(3))
            _fold(self._mean, self._weight, said, *self._along, *starts, *mirrored)

    def result(self, inside: tuple[slice, ...]) -> Array:
        """(classes, k, j, i) after the activation, without what was padded."""
        if self._mean is None:
            raise InputError("model_output")
        values = np.ascontiguousarray(self._mean[(slice(None), *inside)])
        weight = self._weight[inside]
        for k in range(values.shape[1]):
            _activate(values[:, k], weight[k] == 0.0, self._settings.activation)
        return values


class CardBlend:
    """As `HostBlend`, with torch tensors on a card; the mean stays there where it fits."""

    def __init__(
        self, volume: Array, settings: WindowSettings, budget: Budget, device: Device
    ) -> None:
        import torch

        self._torch, self._device = torch, device.name
        self._settings, self._budget = settings, budget
        # Holds the mean where the card has no room for it.
        self._host = HostBlend(volume, settings, Budget(1 << 62))
        # A copy: a volume's values are read-only, which torch cannot express.
        self._volume = torch.tensor(volume, device=device.name)
        k, j, i = (torch.from_numpy(one).to(device.name) for one in self._host._along)
        self._window_weight = k[:, None, None] * j[:, None] * i
        shape = (settings.batch, len(volume), *settings.window)
        self._batch = torch.empty(shape, device=device.name)
        self._weight = torch.zeros(volume.shape[1:], device=device.name)
        self._mean: Any = None
        self._fits = True

    def cut(self, windows: list[Window], *, whole: bool) -> Any:
        """The windows as the next batch, mirrored; all rows of it where `whole`."""
        for row, window in zip(self._batch, windows, strict=False):
            part = self._volume[(slice(None), *window.place)]
            axes = [axis + 1 for axis in window.mirrored]
            row.copy_(part.flip(axes) if axes else part)
        return self._batch if whole else self._batch[: len(windows)]

    def fold(self, out: Any, windows: list[Window]) -> None:
        """Fold (n, classes, window) into the mean of all so far."""
        require_shape(out, self._settings)
        if self._mean is None and self._fits:
            bytes_ = out.shape[1] * self._weight.numel() * _FLOAT_BYTES
            # The other half is for the network's own tensors.
            self._fits = bytes_ <= self._budget.bytes // 2
            if self._fits:
                shape = (out.shape[1], *self._weight.shape)
                self._mean = self._torch.zeros(shape, device=self._device)
        if self._mean is None:
            self._host.fold(out.cpu().numpy(), windows)
            return
        for said, window in zip(out, windows, strict=False):
            total = self._weight[window.place]
            total += self._window_weight
            if window.mirrored:
                said = said.flip([axis + 1 for axis in window.mirrored])
            part = self._window_weight / total
            self._mean[(slice(None), *window.place)].lerp_(said, part)

    def result(self, inside: tuple[slice, ...]) -> Array:
        """(classes, k, j, i) after the activation, without what was padded."""
        if self._mean is None:
            return self._host.result(inside)
        values, weight = self._mean[(slice(None), *inside)], self._weight[inside]
        if not bool(self._torch.isfinite(values.sum())):
            raise InputError("model_output")
        activation = self._settings.activation
        for k in range(values.shape[1]):
            plane = values[:, k]
            if activation == "softmax":
                plane.copy_(plane.softmax(0))
            elif activation == "sigmoid":
                plane.sigmoid_()
            if activation != "none":
                air = weight[k] == 0.0
                plane.masked_fill_(air, 0.0)
                if activation == "softmax":
                    plane[0].masked_fill_(air, 1.0)
        values_on_host: Array = values.contiguous().cpu().numpy()
        return values_on_host


Blend = HostBlend | CardBlend


def blend_on(device: Device, volume: Array, settings: WindowSettings, budget: Budget) -> Blend:
    """Of numpy arrays on a processor, of torch tensors on a card."""
    if device.kind == "cpu":
        return HostBlend(volume, settings, budget)
    return CardBlend(volume, settings, budget, device)


def require_shape(out: Any, settings: WindowSettings) -> None:
    """Refuse an output on another grid than its input.

    Raises
    ------
    InputError
        `model_output`.
    """
    if out.ndim != 5 or tuple(out.shape[2:]) != settings.window:
        raise InputError("model_output")


def _activate(plane: Array, air: NDArray[np.bool_], activation: str) -> None:
    """(classes, j, i) logits to probabilities, in place; air is the first class, or none."""
    if activation == "softmax":
        plane -= plane.max(axis=0)
        np.exp(plane, out=plane)
        total = plane.sum(axis=0)
        sound = np.isfinite(total.sum())
        plane *= np.reciprocal(total, out=total)
    else:
        sound = np.isfinite(plane.sum())
    if not sound:
        raise InputError("model_output")
    if activation == "sigmoid":
        # Half the hyperbolic tangent: no exponential that overflows.
        plane *= np.float32(0.5)
        np.tanh(plane, out=plane)
        plane += np.float32(1.0)
        plane *= np.float32(0.5)
    if activation != "none" and air.any():
        plane[:, air] = 0.0
        if activation == "softmax":
            plane[0, air] = 1.0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator] # numba ships no types
def _fold(
    mean: Any,
    weight: Any,
    out: Any,
    along_k: Any,
    along_j: Any,
    along_i: Any,
    first_k: Any,
    first_j: Any,
    first_i: Any,
    mirrored_k: Any,
    mirrored_j: Any,
    mirrored_i: Any,
) -> None:
    classes, depth, height, width = out.shape
    part = np.empty(width, np.float32)
    for k in range(depth):
        from_k = depth - 1 - k if mirrored_k else k
        for j in range(height):
            from_j = height - 1 - j if mirrored_j else j
            weight_kj = along_k[k] * along_j[j]
            sums = weight[first_k + k, first_j + j, first_i : first_i + width]
            for i in range(width):
                one = weight_kj * along_i[i]
                total = sums[i] + one
                sums[i] = total
                part[i] = one / total
            for c in range(classes):
                row = mean[c, first_k + k, first_j + j, first_i : first_i + width]
                said = out[c, from_k, from_j]
                if mirrored_i:
                    for i in range(width):
                        row[i] += part[i] * (said[width - 1 - i] - row[i])
                else:
                    for i in range(width):
                        row[i] += part[i] * (said[i] - row[i])
