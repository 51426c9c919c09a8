"""The outline of one lesion in one slice, as a closed polygon along the edges of its pixels."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_services.domain.findings import LesionSlice

_TRIES: Final = 32
_MOST_CORNERS: Final = 4000
"""Graphic Data (FL) holds 8191 points at most (PS3.5 7.1.2); only bone has so many corners."""
_Pixels = frozenset[tuple[int, int]]
_Corner = tuple[int, int]


def outline(
    pixels: NDArray[np.bool_], part: LesionSlice, pixel_area_mm2: float
) -> NDArray[np.float64]:
    """Corners of `part`'s outer border; its centre alone where `pixels` does not hold it.

    The centre, too, where the border is too long for a content item.

    Parameters
    ----------
    pixels : (row, column) bool
        The slice of the mask that the lesion is a piece of.
    part : LesionSlice
        Told from its neighbours by its centroid and area.
    pixel_area_mm2 : float

    Returns
    -------
    (n, 2) float64
        Columns and rows as SCOORD counts them: the image's corner is (0, 0), the centre of its
        first pixel (0.5, 0.5) (PS3.3 C.10.5.1.2). The last corner repeats the first; a single
        row is a point. Holes are not shown, the segment has them.
    """
    found = _pixels_of(pixels, part, round(part.area_mm2 / pixel_area_mm2))
    corners = _border(found) if found is not None else []
    if not 0 < len(corners) <= _MOST_CORNERS:
        return np.array([[part.column + 0.5, part.row + 0.5]])
    return np.array(corners, np.float64)


def _pixels_of(pixels: NDArray[np.bool_], part: LesionSlice, count: int) -> _Pixels | None:
    """The 8-connected piece with the centroid and the number of pixels of `part`."""
    rows, columns = np.nonzero(pixels)
    nearest = np.argsort(np.hypot(rows - part.row, columns - part.column), kind="stable")
    seen: set[tuple[int, int]] = set()
    tries = 0
    for index in nearest:
        seed = (int(rows[index]), int(columns[index]))
        if seed in seen:
            continue
        piece = _flood(pixels, seed, count)
        seen |= piece
        centre = np.mean(sorted(piece), axis=0)
        if len(piece) == count and np.allclose(centre, (part.row, part.column), atol=1e-2):
            return frozenset(piece)
        tries += 1
        if tries == _TRIES:
            break
    return None


def _flood(pixels: NDArray[np.bool_], seed: tuple[int, int], most: int) -> set[tuple[int, int]]:
    """Pixels joined to `seed` by edges or corners; stops once there are more than `most`."""
    height, width = pixels.shape
    piece, edge = {seed}, [seed]
    while edge and len(piece) <= most:
        row, column = edge.pop()
        for near in range(max(row - 1, 0), min(row + 2, height)):
            for beside in range(max(column - 1, 0), min(column + 2, width)):
                if pixels[near, beside] and (near, beside) not in piece:
                    piece.add((near, beside))
                    edge.append((near, beside))
    return piece


def _border(piece: _Pixels) -> list[_Corner]:
    """Walk the pixel edges with the lesion on the right hand, from its topmost leftmost pixel.

    Where two pixels meet by a corner only, turning left goes on around the second one, so that
    what is one lesion is one polygon.
    """
    steps: dict[_Corner, list[_Corner]] = {}
    for row, column in piece:
        for beyond, start, step in (
            ((row - 1, column), (column, row), (1, 0)),
            ((row, column + 1), (column + 1, row), (0, 1)),
            ((row + 1, column), (column + 1, row + 1), (-1, 0)),
            ((row, column - 1), (column, row + 1), (0, -1)),
        ):
            if beyond not in piece:
                steps.setdefault(start, []).append(step)
    row, column = min(piece)
    first: tuple[_Corner, _Corner] = ((column, row), (1, 0))
    at, heading = first
    corners = [at]
    while True:
        at = (at[0] + heading[0], at[1] + heading[1])
        left, right = (heading[1], -heading[0]), (-heading[1], heading[0])
        turned = next(step for step in (left, heading, right) if step in steps[at])
        if turned != heading:
            corners.append(at)
        heading = turned
        if (at, heading) == first:
            return corners
