"""CT phantoms of the chest with planted coronary calcium, whose score follows from the plan alone.

Every planted voxel keeps exactly the HU of the plan, and its neighbours stay below 130 HU, noise or
not. So each lesion's area, peak and weight in each slice are known without looking at the image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dicom_services.anatomy import Canvas, Vector
from dicom_services.body import DECOYS, LABELS, VESSELS, Body, paint_body, random_body
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume

View = Literal["chest", "cardiac"]

QUIET_HU: Final = 110
"""Neighbours of planted calcium reach at most this, so that they never join it."""

MIN_AREA_MM2: Final = 1.2
"""Every planted slice is larger than the 1 mm2 below which Agatston 1990 counts nothing."""


@dataclass(frozen=True, slots=True)
class PlannedSlice:
    """What is planted in one slice: `rows` and `columns` of its pixels, and what they amount to."""

    k: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    peak_hu: int
    area_mm2: float
    weight: int
    score: float


@dataclass(frozen=True, slots=True)
class PlannedLesion:
    """A planted lesion of one vessel ("LM", "LAD", "LCx" or "RCA")."""

    vessel: str
    slices: tuple[PlannedSlice, ...]

    @property
    def score(self) -> float:
        """Area times weight over its slices, in Agatston units, not corrected for spacing."""
        return sum(part.score for part in self.slices)


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A volume and the truth about it.

    Parameters
    ----------
    volume : Volume
    labels : (k, j, i) uint8
        What each voxel is, by `dicom_services.body.LABELS`.
    lesions : tuple of PlannedLesion
    decoys : tuple of str
    """

    volume: Volume
    labels: NDArray[np.uint8]
    lesions: tuple[PlannedLesion, ...]
    decoys: tuple[str, ...]

    @property
    def score(self) -> float:
        """Agatston score of the plan, not corrected for spacing."""
        return sum(lesion.score for lesion in self.lesions)

    def truth(self) -> dict[str, object]:
        """The plan as plain JSON: scores in all and by vessel, lesions, decoys."""
        factor = self.volume.geometry.slice_spacing_mm / 3.0
        return {
            "agatston": round(self.score, 6),
            "agatston_times_spacing_over_3_mm": round(self.score * factor, 6),
            "by_vessel": {
                vessel: round(sum(part.score for part in self.lesions if part.vessel == vessel), 6)
                for vessel in VESSELS
            },
            "lesions": [
                {
                    "vessel": lesion.vessel,
                    "score": round(lesion.score, 6),
                    "slices": [
                        {
                            "k": part.k,
                            "pixels": len(part.rows),
                            "peak_hu": part.peak_hu,
                            "area_mm2": round(part.area_mm2, 6),
                            "weight": part.weight,
                        }
                        for part in lesion.slices
                    ],
                }
                for lesion in self.lesions
            ],
            "decoys": list(self.decoys),
        }


def weight_of(peak_hu: int) -> int:
    """Density weight of a peak (Agatston 1990, Methods): 130, 200, 300, 400 HU begin 1, 2, 3, 4."""
    return sum(peak_hu >= start for start in (130, 200, 300, 400))


@dataclass(frozen=True, slots=True)
class Scan:
    """How the phantom is scanned.

    Parameters
    ----------
    view : "chest" or "cardiac"
        The whole thorax, or a box about the heart that cuts off ribs, lungs and skin.
    matrix : int
        Rows and columns.
    fov_mm, spacing_mm : float
    top_mm, bottom_mm : float
        Heights above and below the heart's centre; None follows the view.
    noise_hu : float
        Standard deviation; neighbouring pixels correlate, as a soft kernel makes them.
    head_first : bool
        True: k rises towards the head.
    """

    view: View = "chest"
    matrix: int = 512
    fov_mm: float = 370.0
    spacing_mm: float = 3.0
    top_mm: float = 130.0
    bottom_mm: float = -100.0
    noise_hu: float = 12.0
    head_first: bool = True


def random_scan(seed: int, view: View, *, matrix: int = 512, noise_hu: float = 12.0) -> Scan:
    """A scan as practice has them: 1.25 to 3 mm, the box 200 to 250 mm, the chest 350 to 400 mm."""
    draw = np.random.default_rng([seed, 1])
    chest = view == "chest"
    return Scan(
        view=view,
        matrix=matrix,
        fov_mm=float(draw.uniform(350.0, 400.0) if chest else draw.uniform(200.0, 250.0)),
        spacing_mm=float(draw.choice([1.25, 2.0, 2.5, 3.0])),
        top_mm=float(draw.uniform(110.0, 140.0) if chest else draw.uniform(52.0, 66.0)),
        bottom_mm=float(draw.uniform(-120.0, -90.0) if chest else draw.uniform(-85.0, -62.0)),
        noise_hu=noise_hu,
        head_first=bool(draw.random() < 0.5),
    )


def random_phantom(
    seed: int,
    view: View = "chest",
    *,
    lesions: int = 6,
    decoys: Sequence[str] = DECOYS,
    matrix: int = 512,
    noise_hu: float = 12.0,
    blood_hu: float = 40.0,
    scan: Scan | None = None,
) -> Phantom:
    """A chest of random build with `lesions` planted along its coronary arteries.

    Parameters
    ----------
    lesions : int
        As many as find a free place; they go round the vessels LM, LAD, LCx, RCA.
    decoys : sequence of str
        Calcium and metal that is not coronary, from `dicom_services.body.DECOYS`.
    """
    body = random_body(seed, decoys=tuple(decoys), blood_hu=blood_hu)
    how = random_scan(seed, view, matrix=matrix, noise_hu=noise_hu) if scan is None else scan
    return paint_phantom(body, how, lesions)


def paint_phantom(body: Body, scan: Scan, lesions: int = 0) -> Phantom:
    """Paint a body as one scan shows it, then plant lesions."""
    geometry = _grid(body, scan)
    draw = np.random.default_rng([body.seed, 2])
    values = np.empty(geometry.shape, np.int16)
    labels = np.empty(geometry.shape, np.uint8)
    origin, pixel = geometry.affine[:3, 3], scan.fov_mm / scan.matrix
    steps = np.arange(scan.matrix, dtype=np.float32) * np.float32(pixel)
    x, y = np.float32(origin[0]) + steps, np.float32(origin[1]) + steps
    hu = np.empty(geometry.shape[1:], np.float32)
    for k in range(geometry.shape[0]):
        z = float(origin[2] + k * geometry.affine[2, 0])
        canvas = Canvas(hu, labels[k], x, y, z)
        paint_body(body, canvas)
        seen = _blur(hu)
        if scan.noise_hu > 0.0:
            seen += _noise(draw, seen.shape, scan.noise_hu)
        values[k] = np.clip(np.rint(seen), -1024, 3071)
    planted = _plant(body, geometry, values, labels, lesions, draw)
    volume = Volume(
        values,
        geometry,
        "[hnsf'U]",
        f"2.25.{7_000_000 + body.seed}",
        Acquisition("CT", tube_voltage_kv=120.0, slice_thickness_mm=scan.spacing_mm),
    )
    return Phantom(volume, labels, planted, tuple(name for name, _, _ in body.decoys))


def _grid(body: Body, scan: Scan) -> Geometry:
    count = 1 + int((scan.top_mm - scan.bottom_mm) / scan.spacing_mm)
    pixel = scan.fov_mm / scan.matrix
    step = scan.spacing_mm if scan.head_first else -scan.spacing_mm
    start = scan.bottom_mm if scan.head_first else scan.top_mm
    middle = (
        (0.0, 8.0) if scan.view == "chest" else (body.heart_center[0], body.heart_center[1] + 8)
    )
    affine = np.array(
        [
            [0.0, 0.0, pixel, middle[0] - 0.5 * (scan.fov_mm - pixel)],
            [0.0, pixel, 0.0, middle[1] - 0.5 * (scan.fov_mm - pixel)],
            [step, 0.0, 0.0, start],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    return Geometry(affine, (count, scan.matrix, scan.matrix), f"2.25.{8_000_000 + body.seed}")


def _blur(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """The slice with each pixel averaged 1:2:1 with its neighbours, along rows and columns."""
    seen = hu.copy()
    for _ in range(2):
        seen[1:-1] = 0.25 * (seen[:-2] + 2.0 * seen[1:-1] + seen[2:])
        seen = np.ascontiguousarray(seen.T)
    return seen


def _noise(
    draw: np.random.Generator, shape: tuple[int, ...], deviation_hu: float
) -> NDArray[np.float32]:
    """Noise whose neighbouring pixels share half of it."""
    rows, columns = shape
    raw = draw.standard_normal((rows + 1, columns + 1), dtype=np.float32)
    smooth = raw[1:, 1:] + raw[:-1, 1:] + raw[1:, :-1] + raw[:-1, :-1]
    return smooth * np.float32(0.5 * deviation_hu)


def _plant(
    body: Body,
    geometry: Geometry,
    values: NDArray[np.int16],
    labels: NDArray[np.uint8],
    count: int,
    draw: np.random.Generator,
) -> tuple[PlannedLesion, ...]:
    planted: list[PlannedLesion] = []
    order = [VESSELS[n % len(VESSELS)] for n in range(count)]
    for vessel in order if body.courses else []:
        for _ in range(25):
            place = _along(body.courses[vessel], draw.uniform(0.1, 0.95))
            peak = int(draw.choice([145, 199, 200, 260, 299, 300, 350, 399, 400, 700, 1100]))
            radius, slices = draw.uniform(0.9, 2.6), int(draw.integers(1, 4))
            lesion = disc_of_calcium(vessel, place, radius, peak, slices, geometry)
            if lesion is not None and plant(lesion, values, labels):
                planted.append(lesion)
                break
    return tuple(planted)


def _along(path: list[Vector], part: float) -> Vector:
    lengths = np.cumsum([0.0, *(np.linalg.norm(b - a) for a, b in pairwise(path))])
    place = part * lengths[-1]
    return np.array(
        [np.interp(place, lengths, [point[axis] for point in path]) for axis in (0, 1, 2)]
    )


def disc_of_calcium(
    vessel: str,
    place_mm: Vector,
    radius_mm: float,
    peak_hu: int,
    slices: int,
    geometry: Geometry,
) -> PlannedLesion | None:
    """A disc of pixels about a place, in `slices` slices from there on.

    None where the grid ends, or where a slice would be smaller than `MIN_AREA_MM2`.
    """
    first, j, i = (round(float(n)) for n in geometry.to_index(place_mm))
    pixel = geometry.pixel_spacing_mm[0]
    reach = int(radius_mm / pixel) + 1
    rows, columns = np.mgrid[j - reach : j + reach + 1, i - reach : i + reach + 1]
    chosen = np.hypot(rows - j, columns - i) * pixel <= radius_mm
    area = float(chosen.sum()) * geometry.pixel_area_mm2
    edge = 2 + reach
    inside = (
        first >= 1
        and first + slices < geometry.shape[0]
        and edge <= j < geometry.shape[1] - edge
        and edge <= i < geometry.shape[2] - edge
    )
    if not inside or area < MIN_AREA_MM2:
        return None
    weight = weight_of(peak_hu)
    pixels = tuple(int(n) for n in rows[chosen]), tuple(int(n) for n in columns[chosen])
    return PlannedLesion(
        vessel,
        tuple(
            PlannedSlice(k, *pixels, peak_hu, area, weight, area * weight)
            for k in range(first, first + slices)
        ),
    )


def plant(
    lesion: PlannedLesion, values: NDArray[np.int16], labels: NDArray[np.uint8] | None = None
) -> bool:
    """Write a lesion into `values`, its peak in one pixel and no less than 135 HU in the others.

    Its surroundings are quietened to `QUIET_HU`, one pixel wide and one slice above and below.

    Returns
    -------
    bool
        False, and nothing is written, where other calcium, bone or a lesion is too near.
    """
    around = [_around(part, values.shape) for part in lesion.slices]
    first, last = lesion.slices[0], lesion.slices[-1]
    near = [(part.k, ring) for part, ring in zip(lesion.slices, around, strict=True)]
    near += [(first.k - 1, around[0]), (last.k + 1, around[-1])]
    if labels is not None:
        for k, (rows, columns) in near:
            what = labels[k, rows, columns]
            if bool(((what >= 20) | (what == LABELS["bone"]) | (what == LABELS["aorta"])).any()):
                return False
    for k, (rows, columns) in near:
        values[k, rows, columns] = np.minimum(values[k, rows, columns], QUIET_HU)
    for part in lesion.slices:
        body_hu = max(135, round(0.7 * part.peak_hu))
        values[part.k, part.rows, part.columns] = min(body_hu, part.peak_hu)
        middle = len(part.rows) // 2
        values[part.k, part.rows[middle], part.columns[middle]] = part.peak_hu
        if labels is not None:
            labels[part.k, part.rows, part.columns] = LABELS["lesion"]
    return True


def _around(
    part: PlannedSlice, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pixels of a planted slice and the ring about them, as rows and columns."""
    rows = np.asarray(part.rows)[:, None] + np.repeat([-1, 0, 1], 3)
    columns = np.asarray(part.columns)[:, None] + np.tile([-1, 0, 1], 3)
    flat = np.unique(rows.ravel() * shape[2] + columns.ravel())
    return flat // shape[2], flat % shape[2]


def write_phantom(phantom: Phantom, folder: Path, *, seed: str = "phantom") -> tuple[Path, ...]:
    """Write the phantom as a CT series into `folder`/dicom and its truth as `folder`/truth.json."""
    paths = write_ct_series(phantom.volume, folder / "dicom", seed=seed)
    text = json.dumps(phantom.truth(), indent=1, sort_keys=True)
    (folder / "truth.json").write_text(text + "\n", encoding="utf-8")
    return paths
