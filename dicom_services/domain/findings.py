"""What a pipeline says about a study: the five findings, and the lesions a mask is made of."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: value, coding scheme designator and meaning (DICOM PS3.3 table 8.8-1)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number about a site.

    Parameters
    ----------
    what : Code
        The quantity.
    value : float
        Finite.
    unit : Code
        UCUM.
    site : Code
        Anatomy it belongs to.
    method : Code or None
        How it was measured, where the quantity alone does not say.
    tracking : str
        Key of what is measured, stable from run to run; findings with the same key are one group.
    derivation : str
        One English sentence of ours that tells two values of the same quantity apart.

    Raises
    ------
    InputError
        `not_finite` when the value is NaN or infinite.
    """

    what: Code
    value: float
    unit: Code
    site: Code
    method: Code | None = None
    tracking: str = ""
    derivation: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError("not_finite")


@dataclass(frozen=True, slots=True)
class Observation:
    """A coded statement about a site: a category, a warning, a presence.

    Parameters
    ----------
    what : Code
        The question, for example a category system.
    value : Code
        The answer.
    site : Code or None
    probability : float or None
        0..1 where a model gives one.
    tracking : str
        As in `Measurement`.
    """

    what: Code
    value: Code
    site: Code | None = None
    probability: float | None = None
    tracking: str = ""

    def __post_init__(self) -> None:
        if self.probability is not None and not 0.0 <= self.probability <= 1.0:
            raise InputError("probability")


@dataclass(frozen=True, slots=True)
class LesionSlice:
    """One lesion in one slice: 8-connected pixels.

    `k` is the slice index of the mask's geometry; `row` and `column` its centroid there;
    `score` is area times weight, in Agatston units, before any spacing correction.
    """

    k: int
    row: float
    column: float
    area_mm2: float
    peak_hu: float
    weight: int
    score: float


@dataclass(frozen=True, slots=True)
class Lesion:
    """Lesion slices that touch from slice to slice; what a reader includes, excludes or assigns.

    Parameters
    ----------
    id : str
        "L1", "L2", ... in the order of falling score; "S1", "S2", ... where not counted.
    tracking : str
        Stable key, made of its place in the patient.
    site : Code
        Vessel, or the coronary arteries while unassigned.
    center_mm : (x, y, z)
        LPS.
    volume_mm3, peak_hu, score : float
        Over all its slices.
    slices : tuple of LesionSlice
    counted : bool
        False for one that was looked at and set aside: it is shown, so that a reader may count
        it after all, and adds to no number.
    reason : Code or None
        Why it was set aside.
    """

    id: str
    tracking: str
    site: Code
    center_mm: tuple[float, float, float]
    volume_mm3: float
    peak_hu: float
    score: float
    slices: tuple[LesionSlice, ...]
    counted: bool = True
    reason: Code | None = None


@dataclass(frozen=True, slots=True)
class Scoring:
    """The rule by which the lesions of a mask were found and scored.

    Parameters
    ----------
    region : str
        "rule", "given" or "everything": where calcium was looked for.
    steps_hu : tuple of four float
        Where the weights 1 to 4 begin; the first is the threshold.
    min_area_mm2 : float
        A lesion's least area in a slice.
    mass_factor : float or None
        mg per mm3 and HU; None where no mass is given.
    """

    region: str
    steps_hu: tuple[float, float, float, float]
    min_area_mm2: float
    mass_factor: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Voxels that belong to something: (k, j, i) bool on `geometry`.

    Parameters
    ----------
    what : Code
        Segmented property type, such as calcification.
    category : Code
        Segmented property category, such as morphologically abnormal structure.
    label : str
        Short English name of ours, shown by viewers.
    values : (k, j, i) bool
    geometry : Geometry
    site : Code or None
    tracking : str
        As in `Measurement`.
    color : (red, green, blue)
        0..255, recommended display colour.
    lesions : tuple of Lesion
        What the mask is made of, where single lesions matter.
    unlisted_lesions : int
        How many more there are; the mask holds them, the list would be too long.
    scoring : Scoring or None
        How the lesions were scored.
    in_report : bool
        False for what is only to be seen: it has a segment, and no group of measurements.
    """

    what: Code
    category: Code
    label: str
    values: NDArray[np.bool_]
    geometry: Geometry
    site: Code | None = None
    tracking: str = ""
    color: tuple[int, int, int] = (255, 80, 80)
    lesions: tuple[Lesion, ...] = field(default=())
    unlisted_lesions: int = 0
    scoring: Scoring | None = None
    in_report: bool = True

    def __post_init__(self) -> None:
        if self.values.shape != self.geometry.shape or self.values.dtype != np.bool_:
            raise InputError("mask_shape")
        view = self.values.view()
        view.flags.writeable = False
        object.__setattr__(self, "values", view)


@dataclass(frozen=True, slots=True, eq=False)
class ParametricMap:
    """A quantity in every voxel.

    Parameters
    ----------
    what : Code
        The quantity.
    values : (k, j, i) float32
        On `geometry`; NaN where it is not defined.
    unit : Code
        UCUM.
    geometry : Geometry
    label : str
        Short English name of ours, shown by viewers: "CBF".
    window : (low, high) or None
        Values between which viewers spread their colours; None leaves it to the values.
    color_map : str
        Name of a colour map of DICOM (PS3.6 annex B), in capitals: "HOT_IRON", "PET", "RAINBOW".
    method : Code or None
        How it was computed, where the quantity alone does not say.
    site : Code or None
    tracking : str
        As in `Measurement`.

    Raises
    ------
    InputError
        `map_shape` when values and geometry do not fit, or a value is infinite.
    """

    what: Code
    values: NDArray[np.float32]
    unit: Code
    geometry: Geometry
    label: str = ""
    window: tuple[float, float] | None = None
    color_map: str = "HOT_IRON"
    method: Code | None = None
    site: Code | None = None
    tracking: str = ""

    def __post_init__(self) -> None:
        fits = self.values.shape == self.geometry.shape and self.values.dtype == np.float32
        if not fits or bool(np.isinf(self.values).any()):
            raise InputError("map_shape")
        view = self.values.view()
        view.flags.writeable = False
        object.__setattr__(self, "values", view)


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity over time, as a reader plots it: an arterial input, the mean of a region.

    Parameters
    ----------
    what : Code
        What the curve is, such as an arterial input function.
    values : tuple of float
        Finite, one for each time.
    times_s : tuple of float
        Seconds since the first frame, rising.
    unit : Code
        UCUM, of the values.
    site : Code
    label : str
        Short English name of ours: "AIF".
    places : tuple of (k, j, i)
        Voxels it is the mean of, where these are few and were chosen.
    method : Code or None
        How these were chosen.
    tracking : str
        As in `Measurement`.

    Raises
    ------
    InputError
        `not_finite` when a value is NaN or infinite, `curve_shape` when there is not one value
        for each of at least two rising times.
    """

    what: Code
    values: tuple[float, ...]
    times_s: tuple[float, ...]
    unit: Code
    site: Code
    label: str
    places: tuple[tuple[int, int, int], ...] = ()
    method: Code | None = None
    tracking: str = ""

    def __post_init__(self) -> None:
        if not all(math.isfinite(each) for each in (*self.values, *self.times_s)):
            raise InputError("not_finite")
        rising = all(now > before for before, now in itertools.pairwise(self.times_s))
        if len(self.values) != len(self.times_s) or len(self.values) < 2 or not rising:
            raise InputError("curve_shape")


Finding = Measurement | Observation | Mask | ParametricMap | Curve
