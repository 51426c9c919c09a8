"""Small volumes with their calcium, for `tests/wire/calcium-score.json`.

`python -m tests.calcium_cases` writes that file; both languages read it. What is given as `paper`
was worked out by hand; the rest is the node's own answer, with voxels and peaks found by plain
labelling.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops.agatston import find_calcium
from dicom_services.domain.agatston import MASS_FACTOR, STEPS_HU, least_pixels
from dicom_services.domain.cac_category import cac_drs, rumberger
from dicom_services.domain.findings import Code
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.vessels import (
    CORONARY_ARTERIES,
    TOTAL,
    UNASSIGNED,
    VESSELS,
    rescore,
    vessels_with_calcium,
)
from dicom_services.domain.volume import Acquisition, Volume

FILE: Final = Path(__file__).with_name("wire") / "calcium-score.json"
OUTSIDE, REGION, SET_ASIDE, ADDED = range(4)
PREFIX: Final = {REGION: "L", SET_ASIDE: "S", ADDED: "R"}
MOST_MM3, MOST_MM = 5000.0, 30.0
EIGHT, TWENTY_SIX = np.ones((3, 3)), np.ones((3, 3, 3))
Array = NDArray[Any]


def affine(step_mm: float, row_mm: float, column_mm: float) -> list[list[float]]:
    """Axial slices, rows to the back and columns to the left."""
    return [
        [0.0, 0.0, column_mm, -100.25],
        [0.0, row_mm, 0.0, -80.5],
        [step_mm, 0.0, 0.0, 12.0],
        [0.0, 0.0, 0.0, 1.0],
    ]


def geometry_of(case: Mapping[str, Any]) -> Geometry:
    """The grid of a case."""
    return Geometry(np.array(case["affine"]), tuple(case["shape"]), "1.2.3")


def values_of(case: Mapping[str, Any]) -> Array:
    """(k, j, i) int16 or float32."""
    data = base64.b64decode(case["values"])
    return np.frombuffer(data, np.dtype(case["type"]).newbyteorder("<")).reshape(case["shape"])


def classes_of(case: Mapping[str, Any]) -> Array:
    """(k, j, i) uint8; all region where the case has none."""
    if case["classes"] is None:
        return np.full(case["shape"], REGION, np.uint8)
    return np.frombuffer(base64.b64decode(case["classes"]), np.uint8).reshape(case["shape"])


def case_of(
    name: str,
    values: Array,
    *,
    steps_mm: tuple[float, float, float] = (3.0, 1.0, 1.0),
    matrix: Sequence[Sequence[float]] | None = None,
    classes: Array | None = None,
    threshold_hu: float = 130.0,
    min_area_mm2: float = 1.0,
    mass_factor: float | None = None,
    added: Sequence[Sequence[int]] = (),
    decisions: Sequence[Mapping[str, Any]] = (),
    paper: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One case with what is expected of it."""
    kind = "float32" if values.dtype == np.float32 else "int16"
    bytes_of = np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<")).tobytes()
    case: dict[str, Any] = {
        "name": name,
        "shape": list(values.shape),
        "type": kind,
        "values": base64.b64encode(bytes_of).decode(),
        "classes": None
        if classes is None
        else base64.b64encode(classes.astype(np.uint8).tobytes()).decode(),
        "affine": affine(*steps_mm) if matrix is None else [list(row) for row in matrix],
        "threshold_hu": threshold_hu,
        "min_area_mm2": min_area_mm2,
        "mass_factor": mass_factor,
        "added": [list(place) for place in added],
        "decisions": [dict(each) for each in decisions],
        "paper": dict(paper or {}),
    }
    case["expected"] = answer(case)
    return case


def answer(case: Mapping[str, Any]) -> dict[str, Any]:
    """What the reference says of a case."""
    values, geometry = values_of(case), geometry_of(case)
    classes = classes_of(case).copy()
    refused = []
    added = np.zeros(values.shape, np.bool_)
    for index, place in enumerate(case["added"]):
        part = part_around(
            values, classes_of(case), geometry, tuple(place), case["threshold_hu"], case["classes"]
        )
        if isinstance(part, str):
            refused.append({"index": index, "why": part})
        else:
            added |= part
    classes[added] = ADDED
    found = []
    for which in (REGION, SET_ASIDE, ADDED):
        found += lesions_of(case, values, geometry, classes, which)
    decide(found, case["decisions"])
    return {
        "lesions": [
            {key: value for key, value in each.items() if key not in ("at", "lesion")}
            for each in found
        ],
        "scores": scores(case, found, geometry),
        "mask": mask(found, geometry),
        "refused": refused,
    }


def part_around(
    values: Array,
    classes: Array,
    geometry: Geometry,
    place: tuple[int, ...],
    low: float,
    given: object,
) -> Array | str:
    """What a click adds, (k, j, i) bool, or why it adds nothing."""
    if any(not 0 <= at < size for at, size in zip(place, values.shape, strict=True)):
        return "outside_volume"
    if given is None or classes[place] != OUTSIDE:
        return "in_region"
    if not values[place] >= low:
        return "below_threshold"
    labels, _ = ndimage.label((values >= low) & (classes == OUTSIDE), TWENTY_SIX)
    part: Array = labels == labels[place]
    steps = (geometry.slice_spacing_mm, *geometry.pixel_spacing_mm)
    for axis, where in enumerate(np.nonzero(part)):
        pixels = int(where.max() - where.min()) + 1
        if pixels > 1 and pixels * steps[axis] > MOST_MM + 1e-6:
            return "too_long"
    if part.sum() > MOST_MM3 / geometry.voxel_volume_mm3 + 1e-6:
        return "too_large"
    return part


def lesions_of(
    case: Mapping[str, Any], values: Array, geometry: Geometry, classes: Array, which: int
) -> list[dict[str, Any]]:
    """The lesions of one class: measures by the node's kernel, voxels by plain labelling."""
    low, inside = case["threshold_hu"], classes == which
    ct = Volume(values, geometry, "[hnsf'U]", "1.2.3", Acquisition(modality="CT"))
    calcium = find_calcium(
        ct,
        CORONARY_ARTERIES,
        steps_hu=(low, *STEPS_HU[1:]),
        min_area_mm2=case["min_area_mm2"],
        region=inside,
    )
    labels, count = kept_parts(
        (values >= low) & inside, least_pixels(case["min_area_mm2"], geometry.pixel_area_mm2)
    )
    parts = [np.argwhere(labels == n) for n in range(1, count + 1)]
    found = []
    for number, lesion in enumerate(calcium.lesions, 1):
        first = lesion.slices[0]
        own = next(
            part
            for part in parts
            if len(part) * geometry.voxel_volume_mm3 == lesion.volume_mm3
            and np.allclose(geometry.to_patient_mm(part.mean(axis=0)), lesion.center_mm)
            and first.k == part[0][0]
        )
        hu = np.minimum(values[tuple(own.T)].astype(np.float64), 32767.0)
        found.append(
            {
                "id": f"{PREFIX[which]}{number}",
                "class": which,
                "voxels": len(own),
                "score": lesion.score,
                "volume_mm3": lesion.volume_mm3,
                "peak_hu": lesion.peak_hu,
                "peak": [int(at) for at in own[int(np.argmax(hu))]],
                "total_hu": math.fsum(hu),
                "center_mm": list(lesion.center_mm),
                "counted": which != SET_ASIDE,
                "vessel": UNASSIGNED,
                "slices": [
                    {
                        "k": part.k,
                        "row": part.row,
                        "column": part.column,
                        "area_mm2": part.area_mm2,
                        "peak_hu": part.peak_hu,
                        "weight": part.weight,
                        "score": part.score,
                    }
                    for part in lesion.slices
                ],
                "at": own,
                "lesion": lesion,
            }
        )
    return found


def kept_parts(bright: Array, least_px: int) -> tuple[Array, int]:
    """Labels of what is left when islands that are too small are taken out of each slice."""
    kept = np.zeros_like(bright)
    for k, plane in enumerate(bright):
        labels, _ = ndimage.label(plane, EIGHT)
        sizes = np.bincount(labels.ravel())
        kept[k] = plane & (sizes[labels] >= least_px)
    return ndimage.label(kept, TWENTY_SIX)  # type: ignore[no-any-return]


def decide(found: list[dict[str, Any]], decisions: Sequence[Mapping[str, Any]]) -> None:
    """Each lesion takes the decision of the highest anchor inside of it; the rest get free ids."""
    highest: dict[str, int] = {}
    for each in decisions:
        prefix, number = each["id"][0], int(each["id"][1:])
        highest[prefix] = max(highest.get(prefix, 0), number)
    for lesion in found:
        inside = {tuple(place) for place in lesion["at"].tolist()}
        held = [each for each in decisions if tuple(each["anchor"]) in inside]
        if held:
            best = min(held, key=lambda each: (-each["anchor_hu"], each["anchor"]))
            lesion.update({key: best[key] for key in ("id", "counted", "vessel")})
        else:
            prefix = PREFIX[lesion["class"]]
            highest[prefix] = highest.get(prefix, 0) + 1
            lesion["id"] = f"{prefix}{highest[prefix]}"


def scores(
    case: Mapping[str, Any], found: list[dict[str, Any]], geometry: Geometry
) -> dict[str, Any]:
    """Of the lesions that count, as the wire names them."""
    counted = [each for each in found if each["counted"]]
    named = [(str(n), each) for n, each in enumerate(counted)]
    lesions = [replace(each["lesion"], id=name) for name, each in named]
    vessels = rescore(lesions, {name: each["vessel"] for name, each in named})
    total = vessels.pop(TOTAL)
    by_spacing = total.agatston * geometry.slice_spacing_mm / 3.0
    factor = case["mass_factor"]
    whole = math.fsum(each["total_hu"] for each in counted)
    standard = case["threshold_hu"] == STEPS_HU[0]
    return {
        "threshold_hu": case["threshold_hu"],
        "agatston": total.agatston,
        "agatston_by_spacing": by_spacing,
        "volume_mm3": total.volume_mm3,
        "mass_mg": None if factor is None else factor * whole * geometry.voxel_volume_mm3,
        "lesions": total.lesions,
        "cac_drs": _code(cac_drs(by_spacing, vessels_with_calcium(vessels))) if standard else None,
        "rumberger": _code(rumberger(by_spacing)) if standard else None,
        "vessels": {
            name: {
                "agatston": own.agatston,
                "volume_mm3": own.volume_mm3,
                "lesions": own.lesions,
            }
            for name, own in vessels.items()
        },
    }


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def mask(found: Sequence[Mapping[str, Any]], geometry: Geometry) -> list[dict[str, Any]]:
    """Runs of what counts: by slice, then by vessel."""
    runs = []
    for k in range(geometry.shape[0]):
        for vessel in (*VESSELS, UNASSIGNED):
            flat = sorted(
                int(j) * geometry.shape[2] + int(i)
                for each in found
                if each["counted"] and each["vessel"] == vessel
                for at, j, i in each["at"].tolist()
                if at == k
            )
            pairs: list[int] = []
            for pixel in flat:
                if pairs and pairs[-2] + pairs[-1] == pixel:
                    pairs[-1] += 1
                else:
                    pairs += [pixel, 1]
            if pairs:
                runs.append({"k": k, "vessel": vessel, "runs": pairs})
    return runs


def block(shape: tuple[int, int, int], *parts: tuple[tuple[slice | int, ...], int]) -> Array:
    """Tissue of 40 HU with boxes of other values."""
    values = np.full(shape, 40, np.int16)
    for where, hu in parts:
        values[where] = hu
    return values


def decision(
    id_: str, anchor: Sequence[int], hu: float, counted: bool, vessel: str
) -> dict[str, Any]:
    """What a reader decided at a voxel."""
    return {
        "id": id_,
        "anchor": list(anchor),
        "anchor_hu": hu,
        "counted": counted,
        "vessel": vessel,
    }


def cases() -> list[dict[str, Any]]:
    """All of them."""
    return [
        *_scores(),
        *_shapes(),
        *_thresholds(),
        *_classes(),
        *_decisions(),
        *_added(),
        *_noise(),
    ]


def _scores() -> list[dict[str, Any]]:
    box = block((2, 6, 8), ((slice(None), slice(1, 3), slice(2, 6)), 400))
    found = [
        case_of(
            "4 x 2 pixels of 400 HU in two slices (CalciumScoring.jl, test/agatston.jl)",
            box,
            steps_mm=(0.5, 0.5, 0.5),
            mass_factor=MASS_FACTOR,
            paper={
                "agatston": 16.0,
                "agatston_by_spacing": 16.0 * 0.5 / 3.0,
                "volume_mm3": 2.0,
                "mass_mg": 2.0 * 400.0 * 100.0 / 130.0 / 1000.0,
                "lesions": 1,
            },
        )
    ]
    weights = {129: 0, 130: 1, 199: 1, 200: 2, 299: 2, 300: 3, 399: 3, 400: 4, 1500: 4}
    for peak, weight in weights.items():
        values = block((1, 5, 5), ((0, slice(1, 3), slice(1, 3)), min(peak, 131)))
        values[0, 2, 2] = peak
        found.append(
            case_of(
                f"weight of a peak of {peak} HU",
                values,
                paper={"agatston": 4.0 * weight, "lesions": int(weight > 0)},
            )
        )
    for pixels, score in ((99, 0.0), (100, 1.0)):
        values = block((1, 12, 12))
        values[0, 1:11, 1:11] = 150
        if pixels == 99:
            values[0, 10, 10] = 0
        found.append(
            case_of(
                f"{pixels} pixels of 0.01 mm2 against an area of 1.0 mm2",
                values,
                steps_mm=(3.0, 0.1, 0.1),
                paper={"agatston": score},
            )
        )
    for step in (3.0, 1.5, 2.5, 0.625):
        values = block((3, 6, 6), ((1, slice(2, 4), slice(2, 4)), 450))
        paper = {"agatston": 16.0, "agatston_by_spacing": 16.0 * step / 3.0}
        found.append(
            case_of(f"slices {step} mm apart", values, steps_mm=(step, 1.0, 1.0), paper=paper)
        )
    for name, area, drs, group in (
        ("no calcium", 0, "A0", "0"),
        ("score 10 is in the group up to 10", 10, "A1", "1-10"),
        ("score 11 is not", 11, "A1", "11-100"),
        ("score 99", 99, "A1", "11-100"),
        ("score 100 is A2", 100, "A2", "11-100"),
        ("score 101", 101, "A2", "101-400"),
        ("score 300 is A3", 300, "A3", "101-400"),
        ("score 401", 401, "A3", ">400"),
    ):
        values = block((1, 22, 22))
        flat = values.reshape(-1)
        for pixel in range(area):
            flat[22 + 1 + (pixel // 20) * 22 + pixel % 20 if area <= 400 else pixel] = 150
        paper = {"agatston": float(area), "cac_drs": drs, "rumberger": group}
        found.append(case_of(f"category: {name}", values, paper=paper))
    return found


def _shapes() -> list[dict[str, Any]]:
    half = {"steps_mm": (3.0, 1.0, 0.5)}
    corner = block((1, 4, 4), ((0, 1, 1), 150), ((0, 2, 2), 150))
    apart = block((1, 4, 5), ((0, 1, 1), 150), ((0, 2, 3), 150))
    wrap = block((1, 4, 4), ((0, 1, 3), 150), ((0, 2, 0), 150))
    two = block(
        (2, 6, 6), ((0, slice(1, 3), slice(1, 3)), 150), ((1, slice(3, 5), slice(3, 5)), 250)
    )
    gap = block(
        (3, 6, 6), ((0, slice(1, 3), slice(1, 3)), 150), ((2, slice(1, 3), slice(1, 3)), 250)
    )
    thin = gap.copy()
    thin[1, 1, 1] = 1000
    ring = block(
        (1, 7, 7), ((0, slice(1, 6), slice(1, 6)), 300), ((0, slice(2, 5), slice(2, 5)), 0)
    )
    comb = block((1, 6, 9), ((0, 1, slice(0, 9)), 140))
    comb[0, 1:6, ::2] = 210
    tie = block(
        (3, 8, 8), ((0, slice(5, 7), slice(1, 3)), 150), ((0, slice(1, 3), slice(5, 7)), 150)
    )
    tie[2, 1:3, 1:3] = 150
    angle = math.radians(20.0)
    tilted = [
        [0.0, 0.0, 0.7, 3.0],
        [0.4, 0.7 * math.cos(angle), 0.0, -5.0],
        [2.4, 0.7 * math.sin(angle), 0.0, 7.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
    upside = [
        [0.0, 0.0, -0.6, 50.0],
        [0.0, -0.6, 0.0, 40.0],
        [2.0, 0.0, 0.0, -10.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
    return [
        case_of(
            "pixels that touch by a corner are one island", corner, paper={"agatston": 1.0}, **half
        ),
        case_of("a knight's move away is another island", apart, paper={"agatston": 0.0}, **half),
        case_of(
            "a row's end does not touch the next row's start", wrap, paper={"agatston": 0.0}, **half
        ),
        case_of(
            "slices that touch by a corner are one lesion",
            two,
            paper={"agatston": 12.0, "lesions": 1},
        ),
        case_of("a slice between makes two lesions", gap, paper={"agatston": 12.0, "lesions": 2}),
        case_of(
            "an island that is too small joins nothing",
            thin,
            min_area_mm2=1.5,
            paper={"agatston": 12.0, "lesions": 2},
        ),
        case_of("a ring is one island", ring, paper={"agatston": 48.0, "lesions": 1}),
        case_of("a comb is one island", comb, paper={"agatston": 58.0, "lesions": 1}),
        case_of(
            "equal lesions come from foot to head, from front to back", tie, paper={"lesions": 3}
        ),
        case_of(
            "all pixels bright",
            np.full((2, 4, 4), 500, np.int16),
            paper={"agatston": 128.0, "lesions": 1},
        ),
        case_of("a tilted gantry", two, matrix=tilted, paper={"lesions": 1}),
        case_of("head first and turned over", tie, matrix=upside, paper={"lesions": 3}),
        case_of(
            "one pixel a slice",
            block((4, 1, 1), ((slice(0, 3), 0, 0), 131)),
            paper={"agatston": 3.0},
        ),
    ]


def _thresholds() -> list[dict[str, Any]]:
    values = block((2, 8, 12))
    values[0, 1:3, 1:3] = 60
    values[0, 1:3, 5:7] = 120
    values[0, 1:3, 9:11] = 199
    values[1, 1:3, 1:3] = 200
    values[1, 1:3, 5:7] = 299
    values[1, 1:3, 9:11] = 301
    values[1, 5:7, 5:7] = 700
    found = []
    for low, paper in (
        (50, 56.0),
        (60, 56.0),
        (61, 52.0),
        (120, 52.0),
        (130, 48.0),
        (200, 44.0),
        (201, 36.0),
        (250, 36.0),
        (299, 36.0),
        (300, 28.0),
    ):
        found.append(
            case_of(
                f"threshold {low} HU",
                values,
                threshold_hu=float(low),
                paper={"agatston": paper, "cac_drs": "A1" if low == 130 else None},
            )
        )
    return found


def _classes() -> list[dict[str, Any]]:
    values = block((2, 6, 10), ((slice(None), slice(2, 4), slice(1, 9)), 250))
    classes = np.zeros(values.shape, np.uint8)
    classes[:, :, :5] = REGION
    classes[:, :, 5:8] = SET_ASIDE
    return [
        case_of(
            "what is set aside does not count and joins nothing",
            values,
            classes=classes,
            paper={"agatston": 2 * 8 * 2.0, "lesions": 1},
        ),
        case_of(
            "nothing is region",
            values,
            classes=np.zeros(values.shape, np.uint8),
            paper={"agatston": 0.0, "lesions": 0},
        ),
        case_of(
            "dim voxels between are region's when the threshold falls",
            np.where(values == 250, np.int16(90), values),
            classes=classes,
            threshold_hu=80.0,
            paper={"agatston": 16.0, "lesions": 1},
        ),
    ]


def _decisions() -> list[dict[str, Any]]:
    values = block((2, 6, 12))
    values[0, 2:4, 1:4] = 180
    values[0, 2, 2] = 350
    values[0, 2:4, 4:7] = 100
    values[0, 2:4, 7:10] = 180
    values[0, 3, 8] = 420
    values[1, 2:4, 1:3] = 140
    first, second = (0, 2, 2), (0, 3, 8)
    both = [decision("L1", second, 420, True, "LAD"), decision("L2", first, 350, False, "RCA")]
    classes = np.full(values.shape, REGION, np.uint8)
    classes[:, :, 6:] = SET_ASIDE
    every = [decision("L1", first, 350, True, "LM"), decision("S1", second, 420, True, "LCx")]
    equal = values.copy()
    equal[0, 2, 2] = equal[0, 3, 8] = 400
    ties = [decision("L9", second, 400, False, "RCA"), decision("L4", first, 400, True, "LCx")]
    return [
        case_of("two lesions, two decisions", values, decisions=both, paper={"agatston": 24.0}),
        case_of(
            "merged, the higher anchor decides",
            values,
            threshold_hu=90.0,
            decisions=both,
            paper={"agatston": 18 * 4 + 4 * 1.0},
        ),
        case_of(
            "anchors of equal height: the first decides",
            equal,
            threshold_hu=90.0,
            decisions=ties,
            paper={"agatston": 18 * 4 + 4 * 1.0},
        ),
        case_of(
            "an anchor that is dark waits",
            values,
            threshold_hu=300.0,
            decisions=both,
            paper={"agatston": 4.0},
        ),
        case_of(
            "set aside and yet counted",
            values,
            classes=classes,
            decisions=every,
            mass_factor=0.0008,
        ),
        case_of(
            "a part that split off has no decision",
            values,
            threshold_hu=130.0,
            decisions=both[:1],
            paper={"lesions": 2},
        ),
        case_of(
            "all four vessels",
            block(
                (1, 4, 16),
                *(((0, slice(1, 3), slice(n, n + 2)), 150 + 100 * (n // 4)) for n in (0, 4, 8, 12)),
            ),
            decisions=[
                decision("L1", (0, 1, 12), 450, True, "LM"),
                decision("L2", (0, 1, 8), 350, True, "LAD"),
                decision("L3", (0, 1, 4), 250, True, "LCx"),
                decision("L4", (0, 1, 0), 150, True, "RCA"),
            ],
            paper={"agatston": 40.0, "cac_drs": "A1/N4"},
        ),
    ]


def _added() -> list[dict[str, Any]]:
    values = block((4, 24, 40))
    values[1:3, 2:4, 2:5] = 220
    values[2, 3, 4] = 260
    values[0, 10, 1:39] = 500
    values[1, 20, 20] = 300
    values[:, 5:8, 20:24] = 160
    classes = np.zeros(values.shape, np.uint8)
    classes[:, :9, 22:30] = REGION
    large = block((12, 20, 20), ((slice(1, 11), slice(2, 18), slice(2, 18)), 300))
    nothing = np.zeros(large.shape, np.uint8)
    return [
        case_of(
            "a lesion that was missed, and clicks that add nothing",
            values,
            classes=classes,
            min_area_mm2=2.0,
            added=[(2, 3, 4), (0, 10, 5), (1, 20, 20), (3, 0, 0), (1, 6, 23), (9, 0, 0)],
            decisions=[decision("R1", (2, 3, 4), 260, True, "RCA")],
            paper={"agatston": 24.0 + 24.0},
        ),
        case_of(
            "what touches the region is added without it",
            values,
            classes=classes,
            added=[(0, 5, 20)],
            paper={"agatston": 2 * 4 * 6.0, "lesions": 2},
        ),
        case_of(
            "7.68 ml within a box of 30 mm",
            large,
            classes=nothing,
            added=[(5, 9, 9)],
            paper={"agatston": 0.0},
        ),
        case_of(
            "the same of finer voxels is 0.96 ml, which is added",
            large,
            classes=nothing,
            steps_mm=(1.5, 0.5, 0.5),
            added=[(5, 9, 9)],
            paper={"agatston": 10 * 64 * 3.0, "lesions": 1},
        ),
        case_of(
            "clicked twice it counts once",
            values,
            classes=classes,
            added=[(2, 3, 4), (1, 2, 2)],
            paper={"agatston": 24.0 + 24.0},
        ),
        case_of("everything is region: nothing can be added", values, added=[(2, 3, 4)]),
    ]


def _noise() -> list[dict[str, Any]]:
    found = []
    for seed, low in ((1, 50), (2, 90), (3, 130), (4, 175.5), (5, 300), (6, 130)):
        random = np.random.default_rng(seed)
        shape = (5, 17, 23) if seed % 2 else (4, 16, 20)
        rough = ndimage.gaussian_filter(random.normal(0.0, 1.0, shape), (0.5, 0.8, 0.8))
        values = 90.0 + 420.0 * rough / rough.std() * 0.45
        where = ndimage.gaussian_filter(random.normal(0.0, 1.0, shape), 1.5)
        classes = np.where(where > 0.02, REGION, np.where(where < -0.06, SET_ASIDE, OUTSIDE))
        whole: Array = np.rint(values).astype(np.int16)
        if seed == 6:
            whole = values.astype(np.float32)
            whole[0, 3, 3] = np.nan
            whole[1, 4, 4] = np.inf
            whole[2, 5, 5] = -np.inf
        found.append(
            case_of(
                f"noise no. {seed} at {low} HU" + (", with what is no number" if seed == 6 else ""),
                whole,
                steps_mm=(2.5, 0.625, 0.5),
                classes=classes.astype(np.uint8),
                threshold_hu=float(low),
                mass_factor=None if seed == 6 else MASS_FACTOR,
            )
        )
    return found


BAD: Final = [
    {"name": "a run without length", "runs": [3, 2, 9], "code": "runs_odd"},
    {"name": "a run of length zero", "runs": [3, 0], "code": "runs_not_whole"},
    {"name": "half a pixel", "runs": [3.5, 1], "code": "runs_not_whole"},
    {"name": "before the first pixel", "runs": [-1, 2], "code": "runs_not_whole"},
    {"name": "runs that overlap", "runs": [3, 4, 6, 1], "code": "runs_order"},
    {"name": "runs that descend", "runs": [9, 1, 3, 1], "code": "runs_order"},
    {"name": "beyond the image", "runs": [14, 3], "code": "runs_outside"},
]
"""Runs in an image of 4 x 4 pixels that nobody may take."""


def document() -> dict[str, Any]:
    """What the file holds."""
    return {
        "schema": 1,
        "about": "Calcium of small volumes; values and classes are base64, little endian.",
        "cases": cases(),
        "bad_runs": {"shape": [1, 4, 4], "runs": BAD},
        "bad_thresholds_hu": [49.999, 300.5, -1.0, 0.0, 1000.0],
    }


def text() -> str:
    """The document as JSON, a line for each case."""
    found = document()
    lines = ",\n".join(json.dumps(case, allow_nan=False) for case in found.pop("cases"))
    return json.dumps(found, allow_nan=False)[:-1] + ', "cases": [\n' + lines + "\n]}\n"


if __name__ == "__main__":
    FILE.write_text(text())
