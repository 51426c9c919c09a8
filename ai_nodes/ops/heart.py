"""Where the heart is in an unenhanced CT, by a rule a reader can follow on the images.

The rule, in the patient's own axes on a 3 mm grid:

1. Lungs are large parts inside the body, darker than tissue and brighter than plain air. Their
   convex hull in each plane is the chest's inside; what else it holds lies between the lungs.
2. The spine is the bone that persists from plane to plane in the middle of the back half. Nothing
   behind its front edge is heart.
3. The descending aorta is a chain of circles beside the spine, the ascending aorta one that comes
   down from the top. Their walls are not heart.
4. The diaphragm's right dome is the largest soft part far right of the spine.
   The heart ends at most 30 mm below its top, and below it stays above its own shadow.
5. The windpipe ends at the carina. The heart begins at least 10 mm below it.
6. The heart's muscle is the largest lump between those limits that a ball of 15 mm radius fits
   into. Vessels, lymph nodes and the chest wall are too thin for it.
7. The region is this lump, its grooves closed, with 10 mm of fat around it for the coronary
   arteries, less lung and all of the above.
8. What reaches 130 HU in it and cannot be a plaque leaves it (`lookalikes`): metal, bone, aortic
   wall, edges and faint rims along the lung, smears of motion.

It does not know: dextrocardia, a chest with one airless lung, an aorta as wide as the heart.
Calcium of the mitral ring and of the heart's valves lies inside the heart and stays in: by place
and HU it cannot be told from a plaque of the circumflex artery, so a reader must exclude it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from ai_nodes.ops.aorta import Tube, steady_radius_mm, track_tube
from ai_nodes.ops.coarse import GRID_MM, Coarse, coarse_copy, fine_box, to_fine
from ai_nodes.ops.lookalikes import METAL_HU, lookalikes
from dicom_services.domain.volume import Volume

Bools = NDArray[np.bool_]

CONTRAST_FROM_HU: Final = 90.0
"""Unenhanced blood is 30 to 60 HU at 120 kVp; 90 is two deviations of 20 HU noise below 130."""

AIR_HU: Final = -500.0
TISSUE_HU: Final = -300.0
PLAIN_AIR_HU: Final = -975.0
"""Room, stomach, bowel and padding hold plain air, -1000 HU; lung with emphysema is above -970."""

WINDPIPE_HU: Final = -920.0
"""The windpipe holds plain air; lung of a deep breath is -850, and its wall keeps them apart."""

WINDPIPE_MM2: Final = 700.0
"""30 mm across: above the widest normal windpipe."""

WINDPIPE_MM: Final = 24.0
"""It runs straight down for at least this long; a main bronchus leaves the middle sooner."""

MUSCLE_HU: Final = -20.0
"""Half way between fat (-100) and muscle or blood (40 to 60)."""

BONE_HU: Final = 150.0
CARTILAGE_OVER_BLOOD_HU: Final = 40.0
"""Rib cartilage is 80 to 140 HU; muscle, liver and blood stay within 30 HU of the blood pool."""

LUNG_ML: Final = 60.0
"""On each side of the spine, 6 mm deep or deeper."""

BALL_MM: Final = 12.0
"""Half the thickness of the thinnest heart chamber pair; a normal descending aorta is 12 mm."""

HEART_ML: Final = 150.0
"""The smallest adult hearts, with blood, hold about 300 ml; half of one must be in view."""

MOST_ML: Final = 2500.0
"""A heart of twice the usual size with its great vessels; more is a liver."""

HEART_HEIGHT_MM: Final = 45.0
"""Above the dome; the arteries alone span 72 to 105 mm (Acad Radiol 2000;7:620-626)."""

DOME_RIGHT_MM: Final = 55.0
"""From the spine's middle: right of nearly every right atrium, left of the dome's top."""

DOME_ML: Final = 50.0
"""Of liver beyond those 55 mm; a mass in the lung of this size is 46 mm wide."""

BELOW_DOME_MM: Final = 30.0
"""A deep breath puts the heart's underside 0 to 30 mm below the top of the right dome."""

BELOW_CARINA_MM: Final = 10.0
"""Calcium scans begin 10 to 20 mm below the carina; the higher limit loses no artery."""

FAT_MM: Final = 10.0
"""Fat between the heart's muscle and the pericardium, in which the arteries run."""

GROOVE_MM: Final = 15.0
ASCENDING_MM: Final = 48.0
"""From below the carina to the root it is 30 to 50 mm."""

OUTSIDE_MM: Final = 6.0
WALL_MM: Final = 3.0
"""Added to the circle of the descending aorta: half a grid step and a wall of 2 mm."""

EDGE: Final = 0.3
"""A circle with less wall than this (of 1) is not taken for the descending aorta."""

EDGE_ASCENDING: Final = 0.5
"""Stricter: lower down, where the root meets the chambers, the circle would drift into them."""


@dataclass(frozen=True, slots=True, eq=False)
class HeartRegion:
    """Where coronary calcium is looked for.

    Parameters
    ----------
    mask : (k, j, i) bool
        All false when no heart was found.
    found : bool
    reason : str
        "" when found; else "no_lungs" or "no_heart".
    steps : tuple of (name, number)
        What the rule saw and cut, in order.
    blood_pool_hu : float
        Median of the heart's inside; NaN when there is no heart. At `CONTRAST_FROM_HU` and above
        the blood is enhanced and calcium cannot be told from it.
    set_aside : tuple of (reason, (n,) int)
        What reaches 130 HU within the heart's outline and was taken out, as sorted flat indices
        into the volume, by the reasons of `lookalikes`.
    """

    mask: Bools
    found: bool
    reason: str
    steps: tuple[tuple[str, float], ...]
    blood_pool_hu: float
    set_aside: tuple[tuple[str, NDArray[np.intp]], ...] = ()

    @property
    def has_contrast(self) -> bool:
        """Whether the blood is brighter than unenhanced blood can be."""
        return self.found and self.blood_pool_hu >= CONTRAST_FROM_HU

    @property
    def metal_mm3(self) -> float:
        """How much of the heart's outline is metal; it was taken out with what touches it."""
        return dict(self.steps).get("metal_mm3", 0.0)


def heart_region(ct: Volume) -> HeartRegion:
    """Find the heart with the fat and the coronary arteries on it.

    Parameters
    ----------
    ct : Volume
        (k, j, i) in HU, any orientation.
    """
    coarse = coarse_copy(ct)
    steps: list[tuple[str, float]] = []
    coarse, lungs = _about(coarse, _lungs(coarse))
    spine = _spine(coarse, lungs)
    steps.append(("lungs_ml", _ml(lungs)))
    if spine is None or not _on_both_sides(lungs, spine.column):
        return _nothing(ct, "no_lungs", steps)
    inside = _hulls(lungs)
    steps.append(("spine_x_mm", float(coarse.origin_mm[0] + GRID_MM * spine.column)))
    limits, dome = _limits(coarse, lungs, inside, spine, steps)
    descending = _descending(coarse, spine)
    room = inside & ~lungs & limits & ~descending
    core = _core(coarse, room, dome, steps)
    if core is None:
        return _nothing(ct, "no_heart", steps)
    blood = _blood_pool(coarse, core)
    steps.append(("blood_pool_hu", blood))
    ascending = _ascending(coarse, core, spine, steps)
    region = _with_fat(core, lungs) & limits & ~descending & ~ascending
    region &= ndimage.binary_dilation(inside, _ball(3))
    outline = region.copy()
    region &= ~_bone(coarse, region, blood)
    steps.append(("region_ml", _ml(region)))
    mask, aside = _on_voxels(ct, coarse, (region, outline), ascending | descending, blood, steps)
    return HeartRegion(mask, True, "", tuple(steps), blood, aside)


def _nothing(ct: Volume, reason: str, steps: list[tuple[str, float]]) -> HeartRegion:
    mask = np.zeros(ct.geometry.shape, np.bool_)
    return HeartRegion(mask, False, reason, tuple(steps), float("nan"))


def _ml(mask: Bools) -> float:
    return float(np.count_nonzero(mask)) * GRID_MM**3 / 1000.0


def _ball(voxels: int) -> Bools:
    z, y, x = np.ogrid[-voxels : voxels + 1, -voxels : voxels + 1, -voxels : voxels + 1]
    ball: Bools = z * z + y * y + x * x <= voxels * voxels
    return ball


def _lungs(coarse: Coarse) -> Bools:
    """Parts of 30 ml and more that are brighter than plain air and lie inside the body.

    Inside: most of its voxels meet tissue in two or more of the directions left, right, front and
    back. Bedding, which is as dark as lung, meets the body in one; lung that the field of view
    cuts off still meets heart and chest wall. Thin sheets, as the skin, are opened away.
    """
    dark = (coarse.hu < AIR_HU) & (coarse.hu > PLAIN_AIR_HU)
    labels, count = ndimage.label(ndimage.binary_opening(dark))
    tissue = ndimage.binary_opening(coarse.hu > TISSUE_HU)
    meets = np.zeros(coarse.shape, np.int8)
    for axis in (1, 2):
        meets += np.logical_or.accumulate(tissue, axis=axis)
        meets += np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis=axis), axis)
    size = np.bincount(labels.ravel(), minlength=count + 1)
    held = np.bincount(labels[meets >= 2], minlength=count + 1)
    keep = (size * GRID_MM**3 > 30_000.0) & (2 * held > size)
    keep[0] = False
    lungs: Bools = keep[labels]
    return lungs


def _about(coarse: Coarse, lungs: Bools) -> tuple[Coarse, Bools]:
    """Grid and lungs cut down to the lungs, 30 mm wider in each plane."""
    if not lungs.any():
        return coarse, lungs
    box = []
    for axis, wider in zip(range(3), (0, 10, 10), strict=True):
        used = np.flatnonzero(lungs.any(axis=tuple(n for n in range(3) if n != axis)))
        box.append(slice(max(0, int(used[0]) - wider), int(used[-1]) + 1 + wider))
    where = tuple(box)
    start = np.array([part.start for part in box[::-1]], np.float64)
    return Coarse(coarse.hu[where], coarse.origin_mm + GRID_MM * start), lungs[where]


def _on_both_sides(lungs: Bools, column: int) -> bool:
    deep = ndimage.binary_erosion(lungs, _ball(2))
    return min(_ml(deep[:, :, :column]), _ml(deep[:, :, column:])) >= LUNG_ML


def _hulls(lungs: Bools) -> Bools:
    """The convex hull of the lungs in each plane."""
    inside = np.zeros_like(lungs)
    rows, columns = np.mgrid[: lungs.shape[1], : lungs.shape[2]].astype(np.float32)
    for z, plane in enumerate(lungs):
        used = np.flatnonzero(plane.any(axis=1))
        if used.size < 4:
            continue
        first = plane[used].argmax(axis=1)
        last = plane.shape[1] - 1 - plane[used, ::-1].argmax(axis=1)
        edge = np.concatenate([np.stack([used, first], 1), np.stack([used, last], 1)])
        try:
            hull = ConvexHull(edge)
        except QhullError:
            continue
        held = np.ones(plane.shape, np.bool_)
        for a, b, c in hull.equations.astype(np.float32):
            held &= a * rows + b * columns + c <= 1e-3
        inside[z] = held
    return inside


@dataclass(frozen=True, slots=True, eq=False)
class _Spine:
    """Middle column (x) and, for each plane, the row (y) of the front edge, on the coarse grid."""

    column: int
    front: NDArray[np.float64]


def _spine(coarse: Coarse, lungs: Bools) -> _Spine | None:
    """Bone behind the lungs' middle, in the central 60 % of their width, most persistent in z.

    Of several such places the hindmost: a heart full of contrast is as bright and as long.
    """
    if not lungs.any():
        return None
    _, rows, columns = np.nonzero(lungs)
    middle = int(rows.mean())
    bone = coarse.hu > BONE_HU
    bone[:, :middle] = False
    persistent = ndimage.uniform_filter(bone.mean(axis=0), 7, mode="constant")
    left, right = np.percentile(columns, [1, 99])
    width = right - left
    persistent[:, : int(left + 0.2 * width)] = 0.0
    persistent[:, int(right - 0.2 * width) :] = 0.0
    strong = persistent >= max(0.2, 0.6 * float(persistent.max()))
    if not strong.any():
        return None
    persistent[: int(np.flatnonzero(strong.any(axis=1))[-1]) - 12] = 0.0
    row, column = np.unravel_index(int(persistent.argmax()), persistent.shape)
    near = bone[:, max(0, row - 12) :, max(0, column - 4) : column + 5]
    first = np.where(near.any(axis=1), near.argmax(axis=1) + max(0, row - 12), np.nan)
    some = np.isfinite(first).any(axis=1)
    front = np.full(len(first), np.nan)
    front[some] = np.nanpercentile(first[some], 25, axis=1)
    known = np.flatnonzero(np.isfinite(front))
    front = np.interp(np.arange(front.size), known, front[known])
    return _Spine(int(column), ndimage.percentile_filter(front, 35, 11, mode="reflect"))


def _limits(
    coarse: Coarse, lungs: Bools, inside: Bools, spine: _Spine, steps: list[tuple[str, float]]
) -> tuple[Bools, int | None]:
    """Where a heart may be: in front of the spine, below the carina, not far below the dome."""
    _, rows, columns = coarse.shape
    allowed = np.arange(rows)[None, :] < spine.front[:, None] - 1.0
    limits = np.repeat(allowed[:, :, None], columns, axis=2)
    carina = _carina(coarse, spine)
    if carina is not None:
        top = carina - round(BELOW_CARINA_MM / GRID_MM)
        limits[max(0, top) :] = False
        steps.append(("carina_z_mm", float(coarse.origin_mm[2] + GRID_MM * carina)))
    dome = _dome(lungs, inside & limits, spine)
    if dome is not None:
        limits[: max(0, dome - round(BELOW_DOME_MM / GRID_MM))] = False
        limits[:dome, :, : max(0, spine.column - round(45.0 / GRID_MM))] = False
        steps.append(("dome_z_mm", float(coarse.origin_mm[2] + GRID_MM * dome)))
    return limits, dome


def _dome(lungs: Bools, inside: Bools, spine: _Spine) -> int | None:
    """The top plane of the largest soft part far right of the spine: the liver's dome."""
    column = spine.column - round(DOME_RIGHT_MM / GRID_MM)
    if column < 3:
        return None
    soft = (inside & ~lungs)[:, :, :column]
    soft = ndimage.binary_opening(soft, np.ones((1, 5, 5), np.bool_))
    labels, count = ndimage.label(soft)
    if count == 0:
        return None
    size = np.bincount(labels.ravel(), minlength=count + 1)
    size[0] = 0
    if size.max() * GRID_MM**3 < 1000.0 * DOME_ML:
        return None
    planes = np.flatnonzero((labels == int(size.argmax())).any(axis=(1, 2)))
    return int(planes[-1])


def _carina(coarse: Coarse, spine: _Spine) -> int | None:
    """The plane in which the windpipe, followed down from the top, splits, turns or is lost."""
    air = (coarse.hu < WINDPIPE_HU) & (coarse.hu >= -1024.0)
    last: Bools | None = None
    begin, middle = 0, 0.0
    for z in range(coarse.shape[0] - 1, -1, -1):
        labels, _ = ndimage.label(air[z])
        if last is None:
            last = _windpipe(labels, float(spine.front[z]), spine.column)
            if last is not None:
                begin, middle = z, float(np.argwhere(last)[:, 1].mean())
            elif z < coarse.shape[0] - 5:
                return None
            continue
        touched = np.unique(labels[last])
        touched = touched[touched > 0]
        now = labels == touched[0] if len(touched) == 1 else np.zeros_like(last)
        fits = 15.0 <= np.count_nonzero(now) * GRID_MM**2 <= WINDPIPE_MM2
        if not fits or GRID_MM * abs(float(np.argwhere(now)[:, 1].mean()) - middle) > 12.0:
            return z if GRID_MM * (begin - z) >= WINDPIPE_MM else None
        last = now
    return None


def _windpipe(labels: NDArray[np.int32], front: float, column: int) -> Bools | None:
    """A hole of windpipe size, at most 15 mm off the middle and 70 mm before the spine."""
    for n in range(1, int(labels.max()) + 1):
        where = np.argwhere(labels == n)
        y, x = where.mean(axis=0)
        middle = abs(x - column) <= 5.0 and 0.0 <= front - y <= 23.0
        if middle and 45.0 <= len(where) * GRID_MM**2 <= WINDPIPE_MM2:
            hole: Bools = labels == n
            return hole
    return None


def _descending(coarse: Coarse, spine: _Spine) -> Bools:
    """The descending aorta with its wall: 12 mm right to 45 mm left of the spine's middle."""
    planes = coarse.shape[0]
    x = coarse.origin_mm[0] + GRID_MM * spine.column - 12.0
    y = coarse.origin_mm[1] + GRID_MM * spine.front - 33.0
    corner = np.stack([np.full(planes, x), y], axis=1)
    tube = track_tube(coarse, (0, planes), corner, (57.0, 51.0), (8.0, 21.0))
    return _filled(coarse, tube, WALL_MM)


def _filled(coarse: Coarse, tube: Tube | None, wider_mm: float) -> Bools:
    if tube is None:
        return np.zeros(coarse.shape, np.bool_)
    mask = tube.mask(coarse, wider_mm=wider_mm)
    weak = tube.circles[:, 3] < EDGE
    mask[tube.first : tube.first + weak.size][weak] = False
    return mask


def _ascending(coarse: Coarse, core: Bools, spine: _Spine, steps: list[tuple[str, float]]) -> Bools:
    """The ascending aorta: from the top of the heart 60 mm down, while its wall is clear."""
    top = int(np.flatnonzero(core.any(axis=(1, 2))).max())
    first = max(0, top - round(ASCENDING_MM / GRID_MM))
    corner = np.empty((top + 1 - first, 2))
    corner[:, 0] = coarse.origin_mm[0] + GRID_MM * spine.column - 36.0
    corner[:, 1] = coarse.origin_mm[1] + GRID_MM * spine.front[first : top + 1] - 111.0
    window = 51.0, 66.0
    above = corner[-6:]
    tube = track_tube(coarse, (top + 1 - len(above), top + 1), above, window, (12.0, 22.0))
    if tube is None:
        return np.zeros(coarse.shape, np.bool_)
    radius = steady_radius_mm(tube, len(above))
    tube = track_tube(coarse, (first, top + 1), corner, window, (radius - 1.6, radius + 1.6))
    if tube is None:
        return np.zeros(coarse.shape, np.bool_)
    circles = tube.circles.copy()
    clear = ndimage.median_filter(circles[:, 3], 5, mode="nearest")
    weak = np.flatnonzero(clear[: int(clear.argmax()) + 1] < EDGE_ASCENDING)
    if weak.size:
        circles[: weak.max() + 1, 3] = 0.0
    steps.append(("ascending_mm", GRID_MM * float(np.count_nonzero(circles[:, 3]))))
    return _filled(coarse, Tube(tube.first, circles), 1.0)


def _core(
    coarse: Coarse, room: Bools, dome: int | None, steps: list[tuple[str, float]]
) -> Bools | None:
    """The largest lump of muscle and blood into which a ball of `BALL_MM` fits."""
    muscle = room & (coarse.hu > MUSCLE_HU)
    depth = ndimage.distance_transform_edt(muscle, sampling=GRID_MM)
    labels, count = ndimage.label(depth >= BALL_MM)
    if count == 0:
        return None
    size = np.bincount(labels.ravel(), minlength=count + 1)
    size[0] = 0
    seed = labels == int(size.argmax())
    away = ndimage.distance_transform_edt(~seed, sampling=GRID_MM)
    core: Bools = (away < BALL_MM) & muscle
    if dome is not None:
        shadow = core[dome : dome + 4].any(axis=0)
        core[:dome] &= ndimage.binary_dilation(shadow, iterations=2)
    above = core if dome is None else core[dome:]
    height = GRID_MM * float(np.count_nonzero(above.any(axis=(1, 2))))
    steps += [("heart_ml", _ml(core)), ("heart_above_dome_mm", height)]
    ends = [float(np.count_nonzero(core[z])) * GRID_MM**2 / 100.0 for z in (0, -1)]
    steps += [("cut_below_cm2", ends[0]), ("cut_above_cm2", ends[1])]
    if not HEART_ML <= _ml(core) <= MOST_ML or height < HEART_HEIGHT_MM:
        return None
    return core


def _blood_pool(coarse: Coarse, core: Bools) -> float:
    deep = ndimage.binary_erosion(core, _ball(3))
    return float(np.median(coarse.hu[deep if deep.any() else core]))


def _with_fat(core: Bools, lungs: Bools) -> Bools:
    """The lump with its grooves closed and `FAT_MM` of what lies around it, lung excepted.

    The outermost 3 mm of lung stay in: at this step of the grid they are half heart.
    """
    reach = ndimage.distance_transform_edt(~core, sampling=GRID_MM) <= FAT_MM + GROOVE_MM
    around: Bools = ndimage.distance_transform_edt(reach, sampling=GRID_MM) > GROOVE_MM
    around &= ~ndimage.binary_erosion(lungs)
    return around


def _bone(coarse: Coarse, region: Bools, blood_hu: float) -> Bools:
    """Bone and cartilage that continue outside of the region; bone with 3 mm around it."""
    labels, count = ndimage.label(coarse.hu >= blood_hu + CARTILAGE_OVER_BLOOD_HU)
    wider = ndimage.binary_dilation(region, _ball(round(OUTSIDE_MM / GRID_MM)))
    leaves = np.zeros(count + 1, np.bool_)
    leaves[np.unique(labels[~wider])] = True
    leaves[0] = False
    solid: Bools = leaves[labels]
    solid |= ndimage.binary_dilation(solid & (coarse.hu > BONE_HU))
    return solid


def _on_voxels(
    ct: Volume,
    coarse: Coarse,
    regions: tuple[Bools, Bools],
    aorta: Bools,
    blood_hu: float,
    steps: list[tuple[str, float]],
) -> tuple[Bools, tuple[tuple[str, NDArray[np.intp]], ...]]:
    """The region on the voxels of the CT, without what cannot be a coronary plaque, and that.

    `regions` holds it and its outline, from which bone, cartilage and leads are not yet cut.
    """
    region, outline = regions
    wider = ndimage.binary_dilation(region, _ball(round(OUTSIDE_MM / GRID_MM)))
    box = fine_box(wider, coarse, ct.geometry)
    if box is None:
        return np.zeros(ct.geometry.shape, np.bool_), ()
    fine = to_fine(region, coarse, ct.geometry, box)
    near = to_fine(wider, coarse, ct.geometry, box)
    wall = to_fine(aorta, coarse, ct.geometry, box)
    whole = to_fine(outline, coarse, ct.geometry, box)
    metal = np.count_nonzero(ct.values[box][whole] >= METAL_HU)
    steps.append(("metal_mm3", float(metal) * ct.geometry.voxel_volume_mm3))
    found = lookalikes(ct.values[box], fine, near, wall, ct.geometry, blood_hu, whole)
    del near, wall, whole
    for reason, parts in found.items():
        if reason != "metal":
            cut = float(np.count_nonzero(fine.ravel()[parts]))
            steps.append((f"{reason}_mm3", cut * ct.geometry.voxel_volume_mm3))
        fine.ravel()[parts] = False
    mask = np.zeros(ct.geometry.shape, np.bool_)
    mask[box] = fine
    aside = tuple((reason, _in_volume(parts, box, ct)) for reason, parts in found.items())
    return mask, aside


def _in_volume(
    parts: NDArray[np.intp], box: tuple[slice, slice, slice], ct: Volume
) -> NDArray[np.intp]:
    """Sorted flat indices into the volume of flat indices into a box of it."""
    shape = tuple(part.stop - part.start for part in box)
    index = np.unravel_index(np.sort(parts), shape)
    moved = [at + part.start for at, part in zip(index, box, strict=True)]
    flat: NDArray[np.intp] = np.ravel_multi_index(moved, ct.geometry.shape)
    return flat
