"""DSC-MRI and CT perfusion phantoms of a head, whose flow, volume and delay are known per voxel.

Every white or grey voxel holds what central volume theory says of its flow and transit time, made
on a time grid far finer than the scan's; noise comes last. So each map and each volume is known
without looking at the images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume
from dicom_services.head import (
    AIR,
    ARTERY,
    CORE,
    CSF,
    GREY,
    HEALTHY,
    PENUMBRA,
    SKIN,
    SKULL,
    SLOW_ARTERY,
    VEIN,
    WHITE,
    Head,
    Lesion,
    paint_head,
)
from dicom_services.perfusion_curves import DENSITY_G_ML, KAPPA, Arterial, tissue_curves

Floats = NDArray[np.float64]
Kind = Literal["DSC", "CTP"]

ARRIVAL_S: Final = 12.0
"""The bolus reaches the arteries after this, so that a baseline comes before it."""

AIF_PEAK: Final[dict[str, float]] = {"DSC": 90.0, "CTP": 300.0}
"""1/s of dR2*, or HU over the baseline."""

# Grey 60 and white 25 ml/100 g/min, 4 and 2 ml/100 g: as OSIPI's digital reference objects have it.
FLOW: Final = {GREY: 60.0, WHITE: 25.0}
VOLUME: Final = {GREY: 4.0, WHITE: 2.0}
FLOW_LEFT: Final = {HEALTHY: 1.0, PENUMBRA: 0.6, CORE: 0.12}
VOLUME_LEFT: Final = {HEALTHY: 1.0, PENUMBRA: 1.0, CORE: 0.5}
DELAY_S: Final = {HEALTHY: 1.0, PENUMBRA: 8.5, CORE: 9.5}
"""Of a lesion against healthy tissue: a penumbra keeps its volume, a core loses both."""

SLOW_DELAY_S: Final = 3.0
SLOW_TRANSIT_S: Final = 2.0
VEIN_DELAY_S: Final = 4.0
VEIN_TRANSIT_S: Final = 4.0

SIGNAL: Final = {AIR: 0.0, SKIN: 1200.0, SKULL: 300.0, CSF: 4400.0, WHITE: 2400.0, GREY: 2800.0}
BLOOD_SIGNAL: Final = 2800.0
HU: Final = {AIR: -1000.0, SKIN: 40.0, SKULL: 1000.0, CSF: 6.0, WHITE: 28.0, GREY: 37.0}
BLOOD_HU: Final = 45.0


@dataclass(frozen=True, slots=True)
class PerfusionScan:
    """How the phantom is scanned.

    Parameters
    ----------
    kind : "DSC" or "CTP"
    times : int
    interval_s : float
    shape : (k, j, i)
    pixel_mm, spacing_mm : float
    noise : float
        Standard deviation: percent of grey matter's signal for DSC, HU for CTP. None has 0.5 %
        and 2 HU; the latter is what CT perfusion has once slices of 5 mm and more are averaged.
    echo_time_ms : float
        DSC only.
    """

    kind: Kind = "DSC"
    times: int = 60
    interval_s: float = 1.5
    shape: tuple[int, int, int] = (8, 96, 96)
    pixel_mm: float = 2.2
    spacing_mm: float = 6.0
    noise: float | None = None
    echo_time_ms: float = 25.0

    @property
    def times_s(self) -> Floats:
        """Seconds since the first frame."""
        return np.arange(self.times, dtype=np.float64) * self.interval_s

    @property
    def geometry(self) -> Geometry:
        """k towards the head, j backwards, i to the patient's left; the head in the middle."""
        step = np.array([self.spacing_mm, self.pixel_mm, self.pixel_mm])
        first = -0.5 * (np.array(self.shape) - 1.0) * step
        affine = np.eye(4)
        affine[:3, 0] = (0.0, 0.0, step[0])
        affine[:3, 1] = (0.0, step[1], 0.0)
        affine[:3, 2] = (step[2], 0.0, 0.0)
        affine[:3, 3] = first[::-1]
        return Geometry(affine, self.shape, "2.25.9000001")

    @property
    def acquisition(self) -> Acquisition:
        """What the headers will say."""
        if self.kind == "CTP":
            return Acquisition(
                "CT",
                tube_voltage_kv=80.0,
                tube_current_ma=200.0,
                slice_thickness_mm=self.spacing_mm,
                contrast_agent=True,
            )
        return Acquisition(
            "MR",
            slice_thickness_mm=self.spacing_mm,
            contrast_agent=True,
            echo_time_ms=self.echo_time_ms,
            repetition_time_ms=1000.0 * self.interval_s,
            flip_angle_degrees=60.0,
            field_strength_t=3.0,
        )


@dataclass(frozen=True, slots=True, eq=False)
class PerfusionPhantom:
    """A scan and the truth about it.

    Parameters
    ----------
    scan : PerfusionScan
    volume : Volume
        (t, k, j, i) int16: signal for DSC, HU for CTP.
    head : Head
    cbf, cbv, mtt, delay : (k, j, i) float32
        ml/100 g/min, ml/100 g, s, s; NaN outside white and grey matter. `delay` is against the
        artery and where an ideal residue function has its peak (Tmax).
    aif, vof : (t,) float64
        1/s or HU over the baseline, without noise.
    """

    scan: PerfusionScan
    volume: Volume
    head: Head
    cbf: NDArray[np.float32]
    cbv: NDArray[np.float32]
    mtt: NDArray[np.float32]
    delay: NDArray[np.float32]
    aif: Floats
    vof: Floats

    def volume_ml(self, where: NDArray[np.bool_]) -> float:
        """Of the voxels in `where`."""
        return float(where.sum()) * self.volume.geometry.voxel_volume_mm3 / 1000.0

    def truth(self) -> dict[str, object]:
        """What was planted, as plain JSON."""
        head, grid = self.head, self.volume.geometry
        core = self.volume_ml(head.state == CORE)
        penumbra = self.volume_ml(head.state == PENUMBRA)
        names = {HEALTHY: "healthy", PENUMBRA: "penumbra", CORE: "core"}
        return {
            "kind": self.scan.kind,
            "times": self.scan.times,
            "interval_s": self.scan.interval_s,
            "slices": grid.shape[0],
            "shape": list(grid.shape),
            "brain_ml": round(self.volume_ml(head.brain), 3),
            "core_ml": round(core, 3),
            "penumbra_ml": round(penumbra, 3),
            "hypoperfused_ml": round(core + penumbra, 3),
            "mismatch_ratio": round((core + penumbra) / core, 3) if core > 0.0 else None,
            "aif_peak": round(float(self.aif.max()), 3),
            "aif_peak_s": round(float(self.scan.times_s[int(self.aif.argmax())]), 3),
            "aif_voxels": [list(map(int, at)) for at in np.argwhere(head.tissue == ARTERY)[:8]],
            "tissue": [
                {
                    "tissue": name,
                    "state": names[state],
                    "cbf_ml_100g_min": FLOW[what] * FLOW_LEFT[state],
                    "cbv_ml_100g": VOLUME[what] * VOLUME_LEFT[state],
                    "mtt_s": round(_mtt_s(what, state), 3),
                    "delay_s": DELAY_S[state],
                }
                for name, what in (("grey", GREY), ("white", WHITE))
                for state in (HEALTHY, PENUMBRA, CORE)
            ],
        }


def perfusion_phantom(
    scan: PerfusionScan | None = None, *, seed: int = 7, lesion: Lesion | None = None
) -> PerfusionPhantom:
    """Paint a head and let the bolus pass through it."""
    how = PerfusionScan() if scan is None else scan
    grid = how.geometry
    x, y, z = (
        grid.affine[axis, 3] + np.arange(how.shape[2 - axis]) * grid.affine[axis, 2 - axis]
        for axis in (0, 1, 2)
    )
    head = paint_head(x, y, z, Lesion() if lesion is None else lesion)
    maps = np.full((4, *how.shape), np.nan, np.float32)
    change = np.zeros((how.times, *how.shape), np.float32)
    for where, values, curve in _parts(how, head):
        change[:, where] = curve[:, None]
        if values:
            maps[:, where] = np.array(values)[:, None]
    volume = Volume(
        _scanned(how, head, change, np.random.default_rng([seed, 3])),
        grid,
        "[hnsf'U]" if how.kind == "CTP" else "1",
        f"2.25.{9_100_000 + seed}",
        how.acquisition,
        tuple(float(time) for time in how.times_s),
    )
    cbf, cbv, mtt, delay = maps
    aif, vof = _arterial(how)(how.times_s), _vessel(how, VEIN_DELAY_S, VEIN_TRANSIT_S)
    return PerfusionPhantom(how, volume, head, cbf, cbv, mtt, delay, aif, vof)


def _mtt_s(what: int, state: int) -> float:
    """Central volume theorem: MTT = CBV / CBF."""
    flow = FLOW[what] * FLOW_LEFT[state]
    return 60.0 * VOLUME[what] * VOLUME_LEFT[state] / flow


def _parts(
    scan: PerfusionScan, head: Head
) -> Iterator[tuple[NDArray[np.bool_], tuple[float, ...], Floats]]:
    """Voxels alike, their (CBF, CBV, MTT, delay), and their curve."""
    for what in (GREY, WHITE):
        for state in (HEALTHY, PENUMBRA, CORE):
            where = (head.tissue == what) & (head.state == state)
            flow, mtt, delay = FLOW[what] * FLOW_LEFT[state], _mtt_s(what, state), DELAY_S[state]
            curve = tissue_curves(scan.times_s, _arterial(scan), flow, mtt, delay)[:, 0]
            yield where, (flow, VOLUME[what] * VOLUME_LEFT[state], mtt, delay), curve
    yield head.tissue == ARTERY, (), _arterial(scan)(scan.times_s)
    yield head.tissue == SLOW_ARTERY, (), _vessel(scan, SLOW_DELAY_S, SLOW_TRANSIT_S)
    yield head.tissue == VEIN, (), _vessel(scan, VEIN_DELAY_S, VEIN_TRANSIT_S)


def _arterial(scan: PerfusionScan) -> Arterial:
    return Arterial(arrival_s=ARRIVAL_S, alpha=3.0, beta_s=1.8, peak=AIF_PEAK[scan.kind])


def _vessel(scan: PerfusionScan, delay_s: float, transit_s: float) -> Floats:
    """Blood alone, later and wider than in the artery, of the same area."""
    whole = 6000.0 * KAPPA / (DENSITY_G_ML * transit_s)
    return tissue_curves(scan.times_s, _arterial(scan), whole, transit_s, delay_s)[:, 0]


def _scanned(
    scan: PerfusionScan, head: Head, change: NDArray[np.float32], draw: np.random.Generator
) -> NDArray[np.int16]:
    """(t, k, j, i): signal with Rician noise, or HU with Gaussian, as whole numbers."""
    mr = scan.kind == "DSC"
    still = np.full(scan.shape, BLOOD_SIGNAL if mr else BLOOD_HU, np.float32)
    for what, value in (SIGNAL if mr else HU).items():
        still[head.tissue == what] = value
    noise = scan.noise if scan.noise is not None else (0.5 if mr else 2.0)
    values = np.empty(change.shape, np.int16)
    for t in range(len(change)):
        if not mr:
            seen = still + change[t] + noise * draw.standard_normal(scan.shape, np.float32)
            values[t] = np.clip(np.rint(seen), -1024, 3071)
            continue
        deviation = np.float32(0.01 * noise * SIGNAL[GREY])
        real = still * np.exp(np.float32(-0.001 * scan.echo_time_ms) * change[t])
        real += deviation * draw.standard_normal(scan.shape, np.float32)
        imaginary = deviation * draw.standard_normal(scan.shape, np.float32)
        values[t] = np.rint(np.hypot(real, imaginary))
    return values
