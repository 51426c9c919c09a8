"""What a pipeline is given: volumes with their geometry and how they were acquired."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dicom_services.domain.earlier import Earlier
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a volume was acquired, as far as its headers tell; None means they do not.

    Parameters
    ----------
    modality : str
        DICOM modality, for example "CT".
    tube_voltage_kv : float or None
        KVP (0018,0060).
    slice_thickness_mm : float or None
        Nominal thickness (0018,0050); never used as the distance between slices.
    kernel : str or None
        First value of Convolution Kernel (0018,1210).
    contrast_agent : bool
        Whether the header names a contrast agent; the header alone proves neither case.
    gated : bool
        Whether the header speaks of ECG gating or triggering.
    echo_time_ms, repetition_time_ms, flip_angle_degrees : float or None
        Of MR: (0018,0081), (0018,0080), (0018,1314).
    field_strength_t : float or None
        (0018,0087).
    tube_current_ma : float or None
        (0018,1151).
    notes : tuple of str
        Codes of what was unusual and was handled while reading, such as "gantry_tilt".
    """

    modality: str
    tube_voltage_kv: float | None = None
    slice_thickness_mm: float | None = None
    kernel: str | None = None
    contrast_agent: bool = False
    gated: bool = False
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    flip_angle_degrees: float | None = None
    field_strength_t: float | None = None
    tube_current_ma: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Values on a grid: (k, j, i), or (t, k, j, i) with one time for each frame.

    Parameters
    ----------
    values : (k, j, i) or (t, k, j, i)
        Read-only; int16 for CT, so that 600 slices fit in 300 MB.
    geometry : Geometry
        Of one time point.
    unit : str
        UCUM, "[hnsf'U]" for CT; "1" where the values have none.
    series : str
        DICOM Series Instance UID.
    acquisition : Acquisition
    times_s : tuple of float
        Seconds since the first frame; empty for a single time point.

    Raises
    ------
    InputError
        `volume_shape` when values, geometry and times do not fit each other.
    """

    values: NDArray[np.int16] | NDArray[np.float32]
    geometry: Geometry
    unit: str
    series: str
    acquisition: Acquisition = field(default_factory=lambda: Acquisition("OT"))
    times_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        times = self.values.ndim == 4
        fits = self.values.shape[-3:] == self.geometry.shape and self.values.ndim in (3, 4)
        if not fits or len(self.times_s) != (self.values.shape[0] if times else 0):
            raise InputError("volume_shape")
        view = self.values.view()
        view.flags.writeable = False
        object.__setattr__(self, "values", view)


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """The volumes of one examination; `id` is the Study Instance UID.

    `earlier` is what other analyses of it brought, for those that ask for it.
    """

    id: str
    volumes: tuple[Volume, ...]
    earlier: tuple[Earlier, ...] = ()

    def only(self) -> Volume:
        """The single volume of a study that must have just one.

        Raises
        ------
        InputError
            `volumes` when there is none or more than one.
        """
        if len(self.volumes) != 1:
            raise InputError("volumes", count=len(self.volumes))
        return self.volumes[0]
