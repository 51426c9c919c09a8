"""The order and the grid of a series: from slices as they arrive to one regular stack."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_services.dicom.header import UNDEFINED_LENGTH, open_inflated
from dicom_services.dicom.pixels import stored_values
from dicom_services.dicom.slice_header import Slice, with_moment
from dicom_services.dicom.time_points import times_told
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError

_SAME_ANGLE: Final = 5e-4
"""Largest difference of direction cosines: 0.13 mm at the edge of a 512 mm field, less than a
pixel; cosines written with four digits differ by 1e-4."""
_SAME_PLACE_MM: Final = 1e-2
"""Slices closer than this are the same place: no scanner reconstructs finer."""
_SAME_SPACING: Final = 1e-3
"""Relative difference of pixel spacings: half a pixel over 512."""
_STEP_SHARE: Final = 0.01
_STEP_MM: Final = 0.02
"""A step may differ from the mean by 1 %, which is then the error of a volume, or by the rounding
of two positions written with two decimals."""
_PLACE_SHARE: Final = 0.1
_PLACE_MM: Final = 0.05
"""No slice may lie further than a tenth of the spacing from its place on the regular grid."""
_TILT_DEGREES: Final = 0.1


def one_series(slices: Sequence[Slice]) -> None:
    """Refuse slices of more than one patient, study, series or modality."""
    one_study(slices)
    _refuse_mixture(slices, "mixed_series", lambda s: s.series)


def one_study(slices: Sequence[Slice]) -> None:
    """Refuse slices of more than one patient, study or modality; series may be several."""
    _refuse_mixture(slices, "mixed_patients", _patient_key(slices))
    _refuse_mixture(slices, "mixed_series", lambda s: (s.study, s.modality))


def _patient_key(slices: Sequence[Slice]) -> Callable[[Slice], Hashable]:
    # Names are written in more than one way, IDs are not: names count only where no ID is.
    named = any(one.patient[0] for one in slices)
    return lambda one: one.patient[0] if named else one.patient[1]


def _refuse_mixture(slices: Sequence[Slice], code: str, key: Callable[[Slice], Hashable]) -> None:
    count = len({key(one) for one in slices})
    if count > 1:
        raise InputError(code, count=count)


def one_stack(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """Slices of one orientation and size, each place once, in rising order along the normal.

    Returns
    -------
    list of Slice, list of str
        With the notes on what was left out.

    Raises
    ------
    InputError
        `duplicate_uid_differs`, `localizer_only`, `mixed_frames`, `mixed_units`,
        `mixed_orientation`, `mixed_size`, `mixed_spacing`, `dynamic_series` where the same places
        come at several times, or `positions_repeat` where nothing tells why they do.
    """
    images, notes = _images(slices)
    normal = _normal(images[0].orientation)
    ordered = sorted(images, key=lambda one: float(one.position_mm @ normal))
    unique = _once_by_place(ordered, normal)
    if len(unique) < len(images) and "duplicates_dropped" not in notes:
        notes.append("duplicates_dropped")
    return unique, notes


def places(slices: Sequence[Slice]) -> tuple[list[list[Slice]], list[str]]:
    """Slices of one orientation and size by place, places in rising order along the normal.

    Raises
    ------
    InputError
        As `one_stack`; `mixed_grids` when slices of one height lie beside each other.
    """
    images, notes = _images(slices)
    normal = _normal(images[0].orientation)
    ordered = sorted(images, key=lambda one: float(one.position_mm @ normal))
    found = _by_place(ordered, normal)
    for place in found:
        apart = np.abs([one.position_mm - place[0].position_mm for one in place]).max()
        if apart > _PLACE_MM:
            raise InputError("mixed_grids", apart_mm=round(float(apart), 3))
    _refuse_other_places(found)
    once = [_once_by_moment(place) for place in found]
    if sum(map(len, once)) < len(images) and "duplicates_dropped" not in notes:
        notes.append("duplicates_dropped")
    return once, notes


def _refuse_other_places(found: Sequence[Sequence[Slice]]) -> None:
    """Refuse a series that has slices where the largest one has none."""
    places_of: dict[str, set[int]] = {}
    for k, place in enumerate(found):
        for one in place:
            places_of.setdefault(one.series, set()).add(k)
    largest = max(places_of.values(), key=len)
    strays = sum(len(places - largest) for places in places_of.values())
    if strays:
        raise InputError("mixed_grids", count=strays)


def _once_by_moment(place: Sequence[Slice]) -> list[Slice]:
    """Drop slices that repeat another of the same place, time and number under a new identifier."""
    alike: dict[Hashable, list[Slice]] = {}
    for one in place:
        alike.setdefault((one.series, one.moment, one.number, one.frame), []).append(one)
    kept: list[Slice] = []
    for several in alike.values():
        if len(several) > 1:
            several = [*{_pixel_digest(one): one for one in reversed(several)}.values()]
        kept += several
    return kept


def _by_place(
    ordered: Sequence[Slice], normal: NDArray[np.float64], *, timed: bool = False
) -> list[list[Slice]]:
    found: list[list[Slice]] = []
    for one in ordered:
        known = with_moment(one) if timed else one
        if found and (one.position_mm - found[-1][0].position_mm) @ normal < _SAME_PLACE_MM:
            found[-1].append(known)
        else:
            found.append([known])
    return found


def _images(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """Each image once, without localizers, all of one frame, unit, orientation and size."""
    notes: list[str] = []
    kept = _once_by_uid(slices)
    images = _without_localizers(kept)
    if len(images) < len(kept):
        notes.append("localizers_dropped")
    if len(kept) < len(slices):
        notes.append("duplicates_dropped")
    _refuse_mixture(images, "mixed_frames", lambda one: one.frame_uid)
    _refuse_mixture(images, "mixed_units", lambda one: one.hounsfield)
    _refuse_mixed_grids(images)
    return images, notes


def _normal(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    across: NDArray[np.float64] = np.cross(orientation[0], orientation[1])
    return across / np.linalg.norm(across)


def _once_by_uid(slices: Sequence[Slice]) -> list[Slice]:
    first: dict[tuple[str, int], Slice] = {}
    for one in slices:
        earlier = first.setdefault((one.uid, one.frame), one)
        if earlier is not one and not _same_image(earlier, one):
            raise InputError("duplicate_uid_differs")
    return list(first.values())


def _once_by_place(ordered: Sequence[Slice], normal: NDArray[np.float64]) -> list[Slice]:
    """Drop slices that repeat their neighbour; different ones at one place are more than 3D.

    Frames of one file that lie at one place are never copies, however alike they look.
    """
    unique = [ordered[0]]
    repeats = 0
    for one in ordered[1:]:
        step = float((one.position_mm - unique[-1].position_mm) @ normal)
        if step >= _SAME_PLACE_MM:
            unique.append(one)
        elif one.frame != unique[-1].frame or not _same_image(unique[-1], one):
            repeats += 1
    if repeats:
        times = times_told(_by_place(ordered, normal, timed=True))
        if times > 1:
            raise InputError("dynamic_series", times=times)
        raise InputError("positions_repeat", count=repeats)
    return unique


def _same_image(one: Slice, other: Slice) -> bool:
    """Whether two files show the same pixels at the same place, however else they differ."""
    return (
        one.format == other.format
        and one.shape == other.shape
        and one.rescale == other.rescale
        and one.syntax == other.syntax
        and float(np.abs(one.position_mm - other.position_mm).max()) < _SAME_PLACE_MM
        and float(np.abs(one.orientation - other.orientation).max()) < _SAME_ANGLE
        and _pixel_digest(one) == _pixel_digest(other)
    )


def _pixel_digest(one: Slice) -> bytes:
    if one.inflated or one.fragments:
        # No single span of the file: what is decoded is compared.
        return hashlib.blake2b(stored_values(one, np.empty(one.shape, np.int16)).tobytes()).digest()
    with open_inflated(one.file, one.syntax) as stream:
        stream.seek(one.span.offset)
        digest = hashlib.blake2b()
        left = one.span.length if one.span.length != UNDEFINED_LENGTH else -1
        # In pieces: an encapsulated value has no length of its own and may be large.
        while left and (piece := stream.read(min(left, 1 << 20) if left > 0 else 1 << 20)):
            digest.update(piece)
            left -= len(piece) if left > 0 else 0
        return digest.digest()


def _without_localizers(slices: Sequence[Slice]) -> list[Slice]:
    images = [one for one in slices if not one.localizer]
    if not images:
        raise InputError("localizer_only", count=len(slices))
    if len(images) * 2 <= len(slices):
        raise InputError("mixed_orientation", count=len(slices) - len(images))
    return images


def _refuse_mixed_grids(slices: Sequence[Slice]) -> None:
    reference = slices[len(slices) // 2]
    tilted = [
        one
        for one in slices
        if one.orientation is not reference.orientation
        and np.abs(one.orientation - reference.orientation).max() > _SAME_ANGLE
    ]
    if tilted:
        raise InputError("mixed_orientation", count=min(len(tilted), len(slices) - len(tilted)))
    sizes = Counter(one.shape for one in slices)
    if len(sizes) > 1:
        raise InputError("mixed_size", count=len(sizes))
    for spacing_mm in {one.spacing_mm for one in slices}:
        if not np.allclose(spacing_mm, reference.spacing_mm, rtol=_SAME_SPACING, atol=0.0):
            raise InputError("mixed_spacing")


def grid(ordered: Sequence[Slice], single_step_mm: float) -> tuple[Geometry, list[str]]:
    """The affine of slices in order, sheared where the gantry was tilted.

    Parameters
    ----------
    ordered : sequence of Slice
        As `one_stack` returns them.
    single_step_mm : float
        Thickness to give a single slice; not used where there are two.

    Raises
    ------
    InputError
        `slice_gap` with the number of missing slices, `slice_spacing_irregular`, or
        `slices_shifted` when slices stray within their plane.
    """
    first = ordered[0]
    normal = _normal(first.orientation)
    notes: list[str] = []
    if len(ordered) == 1:
        step = normal * single_step_mm
        notes.append("single_slice")
    else:
        step = _step(np.stack([one.position_mm for one in ordered]), normal)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.orientation[1] * first.spacing_mm[0]
    affine[:3, 2] = first.orientation[0] * first.spacing_mm[1]
    affine[:3, 3] = first.position_mm
    geometry = Geometry(affine, (len(ordered), *first.shape), first.frame_uid)
    if geometry.tilt_degrees > _TILT_DEGREES:
        notes.append("gantry_tilt")
    if not first.frame_uid:
        notes.append("no_frame_of_reference")
    return geometry, notes


def _step(places: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (3,) way from slice to slice of (n, 3) regular positions."""
    steps = np.diff(places @ normal)
    usual = float(np.median(steps))
    multiples = np.rint(steps / usual)
    missing = int((multiples - 1.0)[multiples > 1.0].sum())
    tolerance = max(_STEP_SHARE * usual, _STEP_MM)
    if missing and bool((np.abs(steps - multiples * usual) <= 2.0 * tolerance).all()):
        raise InputError("slice_gap", count=missing, spacing_mm=round(usual, 3))
    count = len(places) - 1
    step: NDArray[np.float64] = (places[-1] - places[0]) / count
    mean = float(step @ normal)
    stray = places - (places[0] + np.arange(count + 1)[:, None] * step)
    along = stray @ normal
    limit = max(_PLACE_SHARE * mean, _PLACE_MM)
    if np.abs(steps - mean).max() > tolerance or np.abs(along).max() > limit:
        widest = round(float(steps.max()), 3)
        raise InputError("slice_spacing_irregular", spacing_mm=round(mean, 3), widest_mm=widest)
    if np.linalg.norm(stray - along[:, None] * normal, axis=1).max() > limit:
        raise InputError("slices_shifted", spacing_mm=round(mean, 3))
    return step
