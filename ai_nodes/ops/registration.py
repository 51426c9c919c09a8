"""Finds the rigid motion that brings one volume onto another, whatever their contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everyone knows it by
from numpy.typing import NDArray

from ai_nodes.ops.grid import Order, resample
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Volume
from dicom_services.errors import InputError

SEED: Final = 20040723
"""Any fixed number: the same volumes give the same motion."""

BINS: Final = 32

LEAST_INFORMATION: Final = 0.05
"""Nats of mutual information below which two volumes have nothing to do with each other."""

LEAST_OVERLAP: Final = 0.25
"""Part of what is seen in the fixed volume that the moving one has to cover."""

UPRIGHT: Final = 1e-4
"""Sine of the angle up to which axes count as perpendicular, a hundredth of a degree."""


@dataclass(frozen=True, slots=True)
class Level:
    """One step from coarse to fine.

    Parameters
    ----------
    voxel_mm : float
        About how wide voxels are made; finer ones are averaged, wider ones stay.
    samples : int
        About how many places are compared.
    step_mm, least_step_mm : float
        How far the first step moves the volume, and the step at which it has arrived.
    """

    voxel_mm: float
    samples: int
    step_mm: float
    least_step_mm: float


LEVELS: Final = (
    Level(4.0, 20_000, 1.0, 0.001),
    Level(2.0, 60_000, 0.25, 0.001),
    Level(0.0, 120_000, 0.125, 0.001),
)
MAX_ITERATIONS: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class Rigid:
    """A rotation and a translation.

    Parameters
    ----------
    matrix : (4, 4) float64
        LPS mm of the moving volume to LPS mm of the fixed one.
    information : float
        Mutual information of both volumes after it, in nats (Mattes 2003).
    iterations : int
        Of all levels.
    converged : bool
        Whether the last level ended because its steps became small.
    """

    matrix: NDArray[np.float64]
    information: float
    iterations: int
    converged: bool

    @property
    def rotation_degrees(self) -> float:
        """The angle of the rotation about its axis."""
        cosine = (float(np.trace(self.matrix[:3, :3])) - 1.0) / 2.0
        return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))

    def move_points(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) LPS mm of the moving volume to where they are in the fixed one."""
        return np.asarray(points_mm @ self.matrix[:3, :3].T + self.matrix[:3, 3])

    def move_values(
        self,
        values: NDArray[Any],
        moving: Geometry,
        fixed: Geometry,
        order: Order = "linear",
        *,
        outside: float = 0.0,
    ) -> NDArray[Any]:
        """Values of the moving grid as they are on the fixed one, in one interpolation."""
        return resample(values, moving, fixed, order, outside=outside, transform=self.matrix)


def register_rigid(moving: Volume, fixed: Volume, *, levels: Sequence[Level] = LEVELS) -> Rigid:
    """The rigid motion that gives both volumes the most mutual information, coarse to fine.

    Begins where the volumes agree best: as they lie, centre on centre, or with what is bright in
    both brought to the same place. One thread and a fixed seed: the same input, the same answer.

    Raises
    ------
    InputError
        `volume_shape` for several time points; `registration_failed` with its facts when the
        volumes do not overlap, share no information or the search did not arrive.

    References
    ----------
    Mattes D et al. IEEE Trans Med Imaging 2003;22:120-128.
    """
    if moving.values.ndim != 3 or fixed.values.ndim != 3:
        raise InputError("volume_shape")
    whole = [_image(volume) for volume in (fixed, moving)]
    iterations, method = 0, sitk.ImageRegistrationMethod()
    motion = sitk.Euler3DTransform()
    try:
        for number, level in enumerate(levels):
            still, moved = (_shrunk(image, level.voxel_mm) for image in whole)
            seen = _seen(still)
            method = _method(seen, level)
            if number == 0:
                motion = _best_start(method, still, moved)
            method.SetInitialTransform(motion, inPlace=True)
            method.Execute(still, moved)
            iterations += method.GetOptimizerIteration()
    except RuntimeError:
        raise InputError("registration_failed", overlap_percent=0) from None
    information = -float(method.GetMetricValue())
    overlap = _overlap(seen, moved, motion)
    converged = method.GetOptimizerIteration() < MAX_ITERATIONS
    if not (converged and overlap >= LEAST_OVERLAP and information >= LEAST_INFORMATION):
        raise InputError(
            "registration_failed",
            overlap_percent=round(100.0 * overlap),
            information=round(information, 3),
            iterations=iterations,
        )
    return Rigid(_moving_to_fixed(motion), information, iterations, converged)


def _image(volume: Volume) -> Any:
    """The volume as ITK holds it; a sheared one is resampled, since ITK's axes are square."""
    values, geometry = volume.values, volume.geometry
    axes = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    if float(np.abs(axes.T @ axes - np.eye(3)).max()) > UPRIGHT:
        geometry = upright(geometry)
        least = float(np.nanmin(values))
        values = resample(values, volume.geometry, geometry, outside=least)
    image = sitk.GetImageFromArray(np.nan_to_num(values.astype(np.float32)))
    steps = geometry.affine[:3, 2::-1]
    lengths = np.linalg.norm(steps, axis=0)
    left, _, right = np.linalg.svd(steps / lengths)
    image.SetSpacing(lengths.tolist())
    image.SetDirection((left @ right).ravel().tolist())
    image.SetOrigin(geometry.affine[:3, 3].tolist())
    return image


def upright(geometry: Geometry) -> Geometry:
    """The smallest grid with square axes around a sheared one: rows and normal stay."""
    row = geometry.affine[:3, 2] / np.linalg.norm(geometry.affine[:3, 2])
    normal = geometry.normal
    axes = np.stack([normal, np.cross(normal, row), row], axis=1)
    steps = np.array([geometry.slice_spacing_mm, *geometry.pixel_spacing_mm])
    ends = np.array(geometry.shape, np.float64) - 1.0
    corners = np.array(np.meshgrid(*[(0.0, end) for end in ends])).reshape(3, -1).T
    places = geometry.to_patient_mm(corners) @ axes / steps
    first = places.min(axis=0)
    shape = np.ceil(places.max(axis=0) - first - UPRIGHT).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = axes * steps
    affine[:3, 3] = axes @ (first * steps)
    return Geometry(affine, (int(shape[0]), int(shape[1]), int(shape[2])), geometry.frame_uid)


def _shrunk(image: Any, voxel_mm: float) -> Any:
    """Whole numbers of voxels averaged, so that each is about `voxel_mm` wide."""
    factors = [
        max(1, min(round(voxel_mm / step), size // 2))
        for step, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    shrink = sitk.BinShrinkImageFilter()
    shrink.SetShrinkFactors(factors)
    shrink.SetNumberOfThreads(1)
    return image if max(factors) == 1 else shrink.Execute(image)


def _seen(image: Any) -> Any:
    """Where there is more than background and its noise, with a rim of two voxels."""
    values = sitk.GetArrayViewFromImage(image)
    bright = values > _background(values)
    seen = sitk.GetImageFromArray(bright.astype(np.uint8))
    seen.CopyInformation(image)
    grow = sitk.BinaryDilateImageFilter()
    grow.SetKernelRadius(2)
    grow.SetKernelType(sitk.sitkBox)
    grow.SetNumberOfThreads(1)
    return grow.Execute(seen)


def _background(values: NDArray[np.float32]) -> float:
    """A tenth of the way from the darkest to the brightest but for 1 % of outliers."""
    part = values.ravel()[:: max(1, values.size // 100_000)]
    low, high = np.percentile(part, (1, 99))
    return float(low + 0.1 * (high - low))


def _method(seen: Any, level: Level) -> Any:
    inside = int(np.count_nonzero(sitk.GetArrayViewFromImage(seen)))
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(seen)
    method.SetMetricSamplingStrategy(sitk.ImageRegistrationMethod.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, level.samples / max(1, inside)), SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetOptimizerAsRegularStepGradientDescent(
        level.step_mm, level.least_step_mm, MAX_ITERATIONS, 0.5, 1e-12
    )
    return method


def _best_start(method: Any, still: Any, moved: Any) -> Any:
    """Among plausible beginnings the one with most mutual information."""
    kinds = sitk.CenteredTransformInitializerFilter
    empty = sitk.Euler3DTransform()
    starts = [
        sitk.Euler3DTransform(
            sitk.CenteredTransformInitializer(still, moved, empty, kinds.GEOMETRY)
        ),
        sitk.Euler3DTransform(
            sitk.CenteredTransformInitializer(still, moved, empty, kinds.MOMENTS)
        ),
    ]
    as_it_is = sitk.Euler3DTransform()
    as_it_is.SetCenter(starts[1].GetCenter())
    worth = []
    for start in [as_it_is, *starts]:
        method.SetInitialTransform(start, inPlace=False)
        try:
            worth.append((method.MetricEvaluate(still, moved), start))
        except RuntimeError:
            continue
    if not worth:
        raise InputError("registration_failed", overlap_percent=0)
    return min(worth, key=lambda one: one[0])[1]


def _overlap(seen: Any, moved: Any, motion: Any) -> float:
    """Part of what is seen in the fixed volume that falls into the moving one."""
    mask = sitk.GetArrayViewFromImage(seen)
    places = np.argwhere(mask)[:: max(1, int(mask.sum()) // 2000), ::-1].tolist()
    sizes = moved.GetSize()
    inside = 0
    for place in places:
        point = motion.TransformPoint(seen.TransformIndexToPhysicalPoint(place))
        index = moved.TransformPhysicalPointToContinuousIndex(point)
        inside += all(-0.5 <= n <= size - 0.5 for n, size in zip(index, sizes, strict=True))
    return inside / max(1, len(places))


def _moving_to_fixed(motion: Any) -> NDArray[np.float64]:
    """ITK brings points of the fixed volume to the moving one; ours the other way."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(motion.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(motion.TransformPoint((0.0, 0.0, 0.0)))
    return np.linalg.inv(matrix)
