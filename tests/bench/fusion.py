"""Fusing three raters, resampling and registering: ours against SimpleITK, one thread each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ai_nodes.ops.grid import Order, resample
from ai_nodes.ops.overlap import dice, majority
from ai_nodes.ops.registration import register_rigid
from ai_nodes.ops.staple import staple
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Volume
from tests.bench.rig import emit
from tests.conftest import DATA

SHAPE = (155, 240, 240)
CASE = "brain-glioma/BraTS-Toolkit/data/OtherEXampleFromTCIA/OtherEXampleFromTCIA_brainles"
TURNS = 5
KINDS: tuple[tuple[Order, int], ...] = (
    ("nearest", SimpleITK.sitkNearestNeighbor),
    ("linear", SimpleITK.sitkLinear),
    ("cubic", SimpleITK.sitkBSpline),
)


def _medians(runs: dict[str, Callable[[], object]], turns: int = TURNS) -> dict[str, float]:
    """Seconds on the clock, the median of turns that every run takes after a first one."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(each[1:]) for name, each in taken.items()}


def _head() -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Three raters' tumour and the T1 head: real where the shared data are, else made."""
    files = sorted((DATA / CASE / "segmentation").glob("*.nii.gz"))[:3]
    if files:
        labels = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(f))) for f in files]
        name = DATA / CASE / "raw_bet/OtherEXampleFromTCIA_t1_bet.nii.gz"
        head = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(name)))
        return np.stack(labels) > 0, head.astype(np.float32)
    random = np.random.default_rng(1)
    place = np.moveaxis(np.indices(SHAPE), 0, -1) - np.array([77, 120, 120])
    noise = ndimage.gaussian_filter(random.normal(size=SHAPE), 3).astype(np.float32)
    brain = ((place / [60, 80, 65]) ** 2).sum(axis=-1) < 1.0
    lump = ((place - [10, 20, -15]) ** 2).sum(axis=-1)
    masks = np.stack([lump < (20 + 40 * part * noise) ** 2 for part in (1, 2, 3)])
    return masks, np.where(brain, 100.0 + 2000.0 * noise, 0.0).astype(np.float32)


def _image(values: NDArray[np.generic], geometry: Geometry) -> SimpleITK.Image:
    made = SimpleITK.GetImageFromArray(values)
    made.SetDirection(geometry.affine[:3, 2::-1].ravel().tolist())
    made.SetOrigin(geometry.affine[:3, 3].tolist())
    return made


def _geometry(turn_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn_degrees, degrees=True).as_matrix()[:, ::-1]
    affine[:3, 3] = affine[:3, :3] @ (-np.array(SHAPE) / 2.0)
    return Geometry(affine, SHAPE, "1.2")


def _fusion(masks: NDArray[np.bool_]) -> None:
    images = [SimpleITK.GetImageFromArray(each.astype(np.uint8)) for each in masks]

    def their_dice() -> float:
        measure = SimpleITK.LabelOverlapMeasuresImageFilter()
        measure.Execute(images[0], images[1])
        return float(measure.GetDiceCoefficient())

    took = _medians(
        {
            "staple": lambda: staple(masks),
            "their staple": lambda: SimpleITK.STAPLE(images),
            "dice": lambda: dice(masks[0], masks[1]),
            "their dice": their_dice,
            "majority": lambda: majority(masks),
            "their majority": lambda: SimpleITK.LabelVoting(images),
        }
    )
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.STAPLE(images))
    voted = SimpleITK.GetArrayFromImage(SimpleITK.LabelVoting(images)) == 1
    differ = {
        "staple": float(np.abs(staple(masks).probability - theirs).max()),
        "dice": abs(dice(masks[0], masks[1]) - their_dice()),
        "majority": int((majority(masks) != voted).sum()),
    }
    for name, difference in differ.items():
        emit(
            f"fusion of 3 x 240 x 240 x 155, {name}",
            times_simpleitk=round(took[f"their {name}"] / took[name], 1),
            target=20,
            largest_difference=difference,
        )


def _resampling(head: NDArray[np.float32]) -> None:
    here, there = _geometry(), _geometry((6.0, -4.0, 8.0))
    image, grid = _image(head, here), _image(np.zeros(SHAPE, np.float32), there)
    for order, kind in KINDS:

        def theirs(kind: int = kind) -> SimpleITK.Image:
            return SimpleITK.Resample(image, grid, SimpleITK.Transform(), kind, 0.0)

        def ours(order: Order = order) -> NDArray[np.float32]:
            return resample(head, here, there, order)

        took = _medians({"ours": ours, "theirs": theirs}, 3)
        apart = np.abs(ours() - SimpleITK.GetArrayFromImage(theirs())).max()
        emit(
            f"resampling 240 x 240 x 155 to an oblique grid, {order}",
            times_simpleitk=round(took["theirs"] / took["ours"], 2),
            largest_difference=float(apart),
        )


def _plain_registration(fixed: SimpleITK.Image, moving: SimpleITK.Image) -> SimpleITK.Transform:
    """Three levels, Mattes' information at 5 % of the places: as its own examples have it.

    The step grows shorter instead of being guessed, or the error stays at some mm.
    """
    kinds = SimpleITK.CenteredTransformInitializerFilter
    motion = SimpleITK.CenteredTransformInitializer(
        fixed, moving, SimpleITK.Euler3DTransform(), kinds.MOMENTS
    )
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.05, 42)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(motion, inPlace=True)
    method.Execute(fixed, moving)
    return motion


def _registration(head: NDArray[np.float32]) -> None:
    grid = _geometry()
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_euler("xyz", (6.0, -4.0, 8.0), degrees=True).as_matrix()
    truth[:3, 3] = (12.0, -8.0, 9.0)
    moved = resample(head, grid, grid, "cubic", transform=truth)
    still_image, moved_image = _image(head, grid), _image(moved, grid)
    still, moving = Volume(head, grid, "1", "1.3"), Volume(moved, grid, "1", "1.3")
    took = _medians(
        {
            "ours": lambda: register_rigid(moving, still),
            "theirs": lambda: _plain_registration(still_image, moved_image),
        },
        turns=1,
    )
    places = grid.to_patient_mm(np.argwhere(head > 0)[::997].astype(np.float64))
    at = places @ truth[:3, :3].T + truth[:3, 3]
    back = register_rigid(moving, still).move_points(at)
    motion = _plain_registration(still_image, moved_image)
    there = np.array([motion.TransformPoint(each.tolist()) for each in places])
    emit(
        "rigid registration of 240 x 240 x 155",
        times_simpleitk=round(took["theirs"] / took["ours"], 1),
        error_mm=round(float(np.linalg.norm(back - places, axis=1).mean()), 4),
        simpleitk_error_mm=round(float(np.linalg.norm(there - at, axis=1).mean()), 4),
    )


def main() -> None:
    """Print how many times SimpleITK's time each takes less, and by how much results differ."""
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    masks, head = _head()
    _fusion(masks)
    _resampling(head)
    _registration(head)


if __name__ == "__main__":
    main()
