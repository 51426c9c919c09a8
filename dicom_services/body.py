"""A made-up chest: heart with coronary arteries, vessels, lungs, bones, liver, and its decoys.

Proportions are those of an adult lying on the back with a deep breath; they vary with the seed.
HU are those of unenhanced CT at 120 kVp. No patient was the model for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_services.anatomy import (
    Canvas,
    Ellipsoid,
    Vector,
    ellipsoid,
    frame,
    smooth_path,
    tube,
    vector,
)

AIR_HU: Final = -1000.0
LUNG_HU: Final = -860.0
FAT_HU: Final = -95.0
MUSCLE_HU: Final = 52.0
BLOOD_HU: Final = 40.0
LIVER_HU: Final = 58.0

LABELS: Final = {
    "outside": 0,
    "body": 1,
    "lung": 2,
    "fat_of_mediastinum": 3,
    "fat_of_heart": 4,
    "heart": 5,
    "aorta": 6,
    "vessel": 7,
    "airway": 8,
    "bone": 9,
    "liver": 10,
    "artery": 11,
    "gas": 12,
    "aorta_ascending_calcium": 20,
    "aorta_arch_calcium": 21,
    "aorta_descending_calcium": 22,
    "mitral_annulus_calcium": 23,
    "pacemaker_lead": 24,
    "rib_cartilage_calcium": 25,
    "lung_granuloma": 26,
    "lymph_node_calcium": 27,
    "lesion": 40,
}
"""What each voxel of a phantom is; decoys are 20..39, planted lesions 40."""

DECOYS: Final = tuple(name for name, label in LABELS.items() if 20 <= label < 40)
VESSELS: Final = ("LM", "LAD", "LCx", "RCA")


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """Everything that is painted, in LPS mm about a point behind the middle of the sternum.

    Parameters
    ----------
    heart_center : (3,)
    carina_z, dome_z, floor_z : float
        Heights of the tracheal bifurcation, the right diaphragm's top and the heart's underside.
    fat_mm : float
        Thickness of the fat between the heart's muscle and the pericardium.
    chambers : tuple of Ellipsoid
    courses : dict of str to list of (3,)
        Centre line of each coronary artery, from its origin on.
    """

    seed: int
    heart_center: Vector
    carina_z: float
    dome_z: float
    floor_z: float
    fat_mm: float
    blood_hu: float
    cavity: tuple[float, float]
    wall_mm: float
    chambers: tuple[Ellipsoid, ...]
    pericardium: tuple[Ellipsoid, ...]
    aorta: tuple[tuple[Ellipsoid, ...], ...]
    vessels: tuple[Ellipsoid, ...]
    windpipe: tuple[Ellipsoid, ...]
    airways: tuple[Ellipsoid, ...]
    domes: tuple[Ellipsoid, ...]
    bones: tuple[tuple[Ellipsoid, float], ...]
    cartilage: tuple[Ellipsoid, ...]
    decoys: tuple[tuple[str, float, tuple[Ellipsoid, ...]], ...]
    courses: dict[str, list[Vector]]
    spine_y: float
    stomach_gas: Ellipsoid | None


def random_body(
    seed: int,
    *,
    decoys: tuple[str, ...] = (),
    blood_hu: float = BLOOD_HU,
    with_heart: bool = True,
) -> Body:
    """Draw a chest; the same seed gives the same chest.

    Parameters
    ----------
    decoys : tuple of str
        Names from `DECOYS` that are added.
    blood_hu : float
        40 unenhanced; 300 and more stands for an injection of contrast.
    with_heart : bool
        False leaves lungs with nothing but fat and vessels between them.
    """
    draw = np.random.default_rng(seed)
    size = draw.uniform(0.9, 1.1)
    cavity = (size * draw.uniform(122.0, 140.0), size * draw.uniform(82.0, 94.0))
    fat_mm = draw.uniform(5.5, 11.0)
    spine_y = cavity[1] * draw.uniform(0.55, 0.66)
    heart = vector(
        size * draw.uniform(6.0, 16.0), -cavity[1] + size * draw.uniform(56.0, 68.0) + fat_mm, 0.0
    )
    chambers = _chambers(heart, size, draw) if with_heart else ()
    floor_z = -size * draw.uniform(46.0, 54.0)
    carina_z = size * 34.0 + draw.uniform(36.0, 48.0)
    dome_z = floor_z + draw.uniform(2.0, 24.0)
    root, ascending, arch, descending = _aorta_paths(heart, size, carina_z, spine_y, draw)
    radius = size * draw.uniform(14.5, 18.5), size * draw.uniform(10.5, 14.0)
    aorta = (
        tube(smooth_path([root, *ascending]), radius[0]),
        tube(smooth_path([ascending[-1], *arch, descending[0]]), 0.5 * sum(radius)),
        tube(smooth_path(descending), radius[1]),
    )
    vessels = _vessels(heart, size, carina_z, descending, with_heart)
    bones, cartilage = _bones(cavity, carina_z, draw)
    courses = _courses(heart, root, radius[0], chambers, size) if with_heart else {}
    calcium = {
        "aorta_ascending_calcium": (430.0, _wall(ascending[1], radius[0], 0.4, 1.7)),
        "aorta_arch_calcium": (650.0, _wall(arch[1], 0.5 * sum(radius), 3.6, 5.4)),
        "aorta_descending_calcium": (
            520.0,
            tuple(
                part
                for z in (-30.0, 0.0, 25.0)
                for part in _wall(_at_height(descending, z), radius[1], z / 9.0, z / 9.0 + 1.6)
            ),
        ),
        "mitral_annulus_calcium": (480.0, _annulus(heart, size)),
        "pacemaker_lead": (3000.0, _lead(heart, size, carina_z)),
        "rib_cartilage_calcium": (330.0, _specks(cartilage, draw)),
        "lung_granuloma": (
            400.0,
            (ellipsoid(vector(-0.72 * cavity[0], 10.0, 20.0), [4.0] * 3),),
        ),
        "lymph_node_calcium": (
            450.0,
            (ellipsoid(vector(4.0, spine_y - 26.0, carina_z - 9.0), [5.0, 4.0, 5.0]),),
        ),
    }
    gas = None
    if draw.random() < 0.5:
        gas = ellipsoid(vector(62.0, -20.0, dome_z - 42.0), [26.0, 22.0, 14.0])
    return Body(
        seed=seed,
        heart_center=heart,
        carina_z=carina_z,
        dome_z=dome_z,
        floor_z=floor_z,
        fat_mm=fat_mm,
        blood_hu=blood_hu,
        cavity=cavity,
        wall_mm=size * draw.uniform(22.0, 38.0),
        chambers=chambers,
        pericardium=_pericardium(heart, chambers, size, fat_mm),
        aorta=aorta,
        vessels=vessels,
        windpipe=_airways(carina_z, spine_y, 1.8),
        airways=_airways(carina_z, spine_y, 0.0),
        domes=_domes(heart, cavity, dome_z, floor_z, draw),
        bones=bones,
        cartilage=cartilage,
        decoys=tuple((name, *calcium[name]) for name in decoys),
        courses=courses,
        spine_y=spine_y,
        stomach_gas=gas,
    )


def _chambers(heart: Vector, size: float, draw: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Left ventricle, right ventricle, right atrium, left atrium."""
    main = vector(0.66, -0.52, -0.55) + draw.normal(0.0, 0.06, 3)
    axes = frame(main)
    axis = axes[0]
    left = ellipsoid(
        heart + size * (vector(14.0, 2.0, -6.0) + 6.0 * axis), size * vector(46, 35, 35), axes
    )
    right = ellipsoid(
        heart + size * (vector(-14.0, -20.0, -6.0) + 8.0 * axis), size * vector(46, 28, 34), axes
    )
    atrium = ellipsoid(heart + size * vector(-40.0, 2.0, 2.0), size * vector(24, 30, 38))
    back = ellipsoid(heart + size * vector(-4.0, 30.0, 18.0), size * vector(36, 22, 24))
    return left, right, atrium, back


def _pericardium(
    heart: Vector, chambers: tuple[Ellipsoid, ...], size: float, fat_mm: float
) -> tuple[Ellipsoid, ...]:
    if not chambers:
        return ()
    around = tuple(_grown(chamber, fat_mm) for chamber in chambers)
    whole = ellipsoid(heart + size * vector(-2.0, 0.0, 2.0), size * vector(58, 48, 50))
    return (*around, whole)


def _grown(shape: Ellipsoid, by_mm: float) -> Ellipsoid:
    """The ellipsoid with every radius longer by `by_mm`."""
    values, columns = np.linalg.eigh(shape.form)
    radii = np.asarray(values**-0.5, np.float64)
    return ellipsoid(shape.center, radii, columns.T, grow_mm=by_mm)


def _aorta_paths(
    heart: Vector, size: float, carina_z: float, spine_y: float, draw: np.random.Generator
) -> tuple[Vector, list[Vector], list[Vector], list[Vector]]:
    root = heart + size * vector(-6.0, -4.0, 24.0)
    top = carina_z + size * draw.uniform(18.0, 26.0)
    side = size * draw.uniform(16.0, 28.0)
    back_y = spine_y - size * draw.uniform(2.0, 12.0)
    ascending = [
        heart + vector(-10.0, -6.0, 0.0) * size + vector(0.0, 0.0, 0.5 * carina_z + 12.0),
        heart + vector(-20.0, -4.0, 0.0) * size + vector(0.0, 0.0, 0.82 * carina_z),
        vector(heart[0] - 20.0 * size, heart[1] + 2.0, carina_z + 2.0),
    ]
    arch = [
        vector(heart[0] - 12.0 * size, heart[1] + 8.0, top),
        vector(0.5 * (side + heart[0] - 12.0), 0.5 * (heart[1] + back_y), top + 4.0),
        vector(side, back_y - 8.0, top),
    ]
    descending = [
        vector(side, back_y, carina_z + 2.0),
        vector(side + draw.uniform(-4.0, 4.0), back_y + 2.0, 10.0),
        vector(0.7 * side, back_y - 4.0, -60.0),
        vector(0.4 * side, back_y - 10.0, -190.0),
    ]
    return root, ascending, arch, descending


def _vessels(
    heart: Vector, size: float, carina_z: float, descending: list[Vector], with_heart: bool
) -> tuple[Ellipsoid, ...]:
    """Pulmonary trunk and right branch, venae cavae, pulmonary veins, oesophagus."""
    split = vector(heart[0] + 12.0, heart[1] - 2.0, carina_z - 14.0)
    right_branch = [
        split,
        vector(heart[0] - 18.0, heart[1] + 22.0, carina_z - 18.0),
        vector(heart[0] - 60.0, heart[1] + 26.0, carina_z - 24.0),
    ]
    left_branch = [split, vector(heart[0] + 46.0, heart[1] + 30.0, carina_z - 10.0)]
    gullet = [point + vector(-26.0, -9.0, 0.0) for point in descending]
    gullet[-1] = descending[-1] + vector(14.0, -22.0, 0.0)
    paths: list[tuple[list[Vector], float]] = [
        (smooth_path([heart + size * vector(10.0, -30.0, 26.0), split]), 13.0 * size),
        (smooth_path(right_branch), 9.5 * size),
        (smooth_path(left_branch), 9.0 * size),
        (
            [
                heart + size * vector(-38.0, 4.0, 22.0),
                vector(heart[0] - 36.0, heart[1] + 10, 220),
            ],
            8.5 * size,
        ),
        (
            [
                heart + size * vector(-40.0, 10.0, -24.0),
                vector(heart[0] - 36, heart[1] + 18, -90),
            ],
            11.0 * size,
        ),
        (smooth_path(gullet), 7.0),
    ]
    if with_heart:
        for x, z in ((-1.0, 24.0), (-1.0, 6.0), (1.0, 24.0), (1.0, 8.0)):
            start = heart + size * vector(24.0 * x, 34.0, z)
            paths.append(([start, start + vector(38.0 * x, 12.0, 0.4 * (z - 15.0))], 5.5 * size))
    return tuple(sphere for path, radius in paths for sphere in tube(path, radius))


def _airways(carina_z: float, spine_y: float, wall_mm: float) -> tuple[Ellipsoid, ...]:
    carina = vector(2.0, spine_y - 26.0, carina_z)
    right = carina + vector(-30.0, 4.0, -34.0)
    left = carina + vector(44.0, 6.0, -34.0)
    return (
        *tube([carina, vector(0.0, spine_y - 34.0, carina_z + 150.0)], 8.5 + wall_mm),
        *tube([carina, right], 6.5 + wall_mm),
        *tube([right, right + vector(-22.0, 8.0, -16.0)], 4.5 + wall_mm),
        *tube([carina, left], 5.5 + wall_mm),
        *tube([left, left + vector(18.0, 10.0, -16.0)], 4.0 + wall_mm),
    )


def _domes(
    heart: Vector,
    cavity: tuple[float, float],
    dome_z: float,
    floor_z: float,
    draw: np.random.Generator,
) -> tuple[Ellipsoid, ...]:
    """Right half of the diaphragm, left half, and its middle under the heart."""
    left_z = dome_z - draw.uniform(4.0, 18.0)
    right = ellipsoid(
        vector(-0.5 * cavity[0], 2.0, dome_z - 95.0), [0.49 * cavity[0], 0.86 * cavity[1], 95.0]
    )
    left = ellipsoid(
        vector(0.5 * cavity[0], 2.0, left_z - 95.0), [0.47 * cavity[0], 0.84 * cavity[1], 95.0]
    )
    middle = ellipsoid(
        vector(heart[0] - 10.0, -0.2 * cavity[1], floor_z - 66.0),
        [0.66 * cavity[0], 0.76 * cavity[1], 70.0],
    )
    return right, left, middle


def _bones(
    cavity: tuple[float, float], carina_z: float, draw: np.random.Generator
) -> tuple[tuple[tuple[Ellipsoid, float], ...], tuple[Ellipsoid, ...]]:
    """Ribs and sternum with their HU; and the cartilages between them."""
    across, deep = cavity[0] + 6.0, cavity[1] + 6.0
    bones: list[tuple[Ellipsoid, float]] = []
    cartilage: list[Ellipsoid] = []
    level = draw.uniform(-6.0, 6.0)
    for number in range(-8, 9):
        back_z = level + 26.0 * number + 40.0
        for side in (-1.0, 1.0):
            angles = np.linspace(np.radians(60.0), np.radians(-74.0), 150)
            for angle in angles:
                fall = (np.radians(60.0) - angle) / np.radians(134.0)
                place = vector(
                    side * across * np.cos(angle), deep * np.sin(angle), back_z - 72.0 * fall
                )
                if angle < np.radians(-58.0):
                    cartilage.append(ellipsoid(place, [5.0] * 3))
                else:
                    bones.append((ellipsoid(place, [4.6] * 3), 560.0))
                    bones.append((ellipsoid(place, [2.4] * 3), 190.0))
    for z in np.arange(-28.0, carina_z + 60.0, 4.0):
        middle = vector(0.0, -deep - 3.0 - 0.04 * (carina_z - z), z)
        bones.append((ellipsoid(middle, [17.0, 6.5, 6.0]), 420.0))
        bones.append((ellipsoid(middle, [14.5, 4.2, 5.0]), 130.0))
    return tuple(bones), tuple(cartilage)


def _wall(center: Vector, radius: float, start: float, end: float) -> tuple[Ellipsoid, ...]:
    """A plaque along the wall of a vessel that runs upwards, from angle to angle."""
    angles = np.arange(start, end, 0.12)
    return tuple(
        ellipsoid(
            center + (radius - 0.8) * vector(np.cos(angle), np.sin(angle), 0.0), [1.5, 1.5, 4.0]
        )
        for angle in angles
    )


def _at_height(path: list[Vector], z: float) -> Vector:
    smooth = smooth_path(path)
    return min(smooth, key=lambda point: abs(float(point[2]) - z))


def _annulus(heart: Vector, size: float) -> tuple[Ellipsoid, ...]:
    """A C-shaped ring at the back of the mitral valve, between left atrium and ventricle."""
    middle = heart + size * vector(4.0, 20.0, 6.0)
    angles = np.radians(np.arange(-20.0, 150.0, 5.0))
    return tuple(
        ellipsoid(
            middle + size * vector(15.0 * np.cos(a), 6.0 * np.sin(a), -11.0 * np.sin(a)), [2.4] * 3
        )
        for a in angles
    )


def _lead(heart: Vector, size: float, carina_z: float) -> tuple[Ellipsoid, ...]:
    """From the superior vena cava through the right atrium to the right ventricle's apex."""
    path = [
        vector(heart[0] - 36.0, heart[1] + 10.0, carina_z + 60.0),
        heart + size * vector(-38.0, 4.0, 22.0),
        heart + size * vector(-32.0, -2.0, -12.0),
        heart + size * vector(8.0, -28.0, -22.0),
    ]
    return tube(smooth_path(path), 1.4, 0.8)


def _specks(cartilage: tuple[Ellipsoid, ...], draw: np.random.Generator) -> tuple[Ellipsoid, ...]:
    chosen = draw.choice(len(cartilage), size=len(cartilage) // 3, replace=False)
    return tuple(
        ellipsoid(cartilage[n].center + draw.normal(0.0, 1.0, 3), [2.0, 2.0, 2.0]) for n in chosen
    )


def _courses(
    heart: Vector,
    root: Vector,
    radius: float,
    chambers: tuple[Ellipsoid, ...],
    size: float,
) -> dict[str, list[Vector]]:
    """Centre lines in the fat, 2.5 mm outside the muscle, in the grooves between the chambers."""
    start = root + vector(radius + 2.0, -2.0, 4.0)
    fork = start + size * vector(9.0, 1.0, 0.0)
    right = root + vector(-0.75 * (radius + 2.0), -0.66 * (radius + 2.0), 2.0)

    def on_surface(*towards: float) -> Vector:
        way = vector(*towards)
        way /= np.linalg.norm(way)
        reach = np.arange(110.0, 5.0, -0.5)
        points = heart + reach[:, None] * way
        inside = np.any([chamber.holds(points) for chamber in chambers], axis=0)
        point: Vector = points[int(np.argmax(inside))] + 2.5 * way
        return point

    guides = {
        "LAD": [
            (0.62, -0.38, 0.66),
            (0.66, -0.62, 0.32),
            (0.66, -0.78, 0.0),
            (0.7, -0.76, -0.3),
            (0.74, -0.6, -0.55),
        ],
        "LCx": [(0.8, 0.1, 0.55), (0.82, 0.48, 0.3), (0.62, 0.78, 0.05), (0.3, 0.92, -0.25)],
        "RCA": [
            (-0.62, -0.66, 0.34),
            (-0.78, -0.62, 0.05),
            (-0.72, -0.52, -0.42),
            (-0.5, -0.16, -0.82),
            (-0.12, 0.36, -0.9),
        ],
    }
    courses: dict[str, list[Vector]] = {"LM": [start, fork]}
    for name, ways in guides.items():
        origin = right if name == "RCA" else fork
        steps = [on_surface(*way) for way in _between(ways, 4)]
        courses[name] = smooth_path([origin, *steps], 2)
    return courses


def _between(
    ways: list[tuple[float, float, float]], parts: int
) -> list[tuple[float, float, float]]:
    """The directions with `parts` steps from each to the next."""
    steps: list[tuple[float, float, float]] = []
    for start, end in pairwise(ways):
        for part in range(parts):
            step = [
                (1 - part / parts) * a + part / parts * b for a, b in zip(start, end, strict=True)
            ]
            steps.append((step[0], step[1], step[2]))
    return [*steps, ways[-1]]


def paint_body(body: Body, canvas: Canvas) -> None:
    """Paint one slice of the body, from the skin inwards."""
    z = canvas.z
    hu, label = canvas.hu, canvas.label
    across, deep = body.cavity
    x, y = canvas.x, canvas.y[:, None]
    hu[:] = AIR_HU
    label[:] = LABELS["outside"]
    skin = (x / (across + body.wall_mm)) ** 2 + (
        (y - 8.0) / (deep + body.wall_mm + 8.0)
    ) ** 2 <= 1.0
    hu[skin], label[skin] = FAT_HU, LABELS["body"]
    flesh = (x / (across + 0.55 * body.wall_mm)) ** 2 + (
        (y - 8.0) / (deep + 0.55 * body.wall_mm + 6.0)
    ) ** 2 <= 1.0
    hu[flesh] = MUSCLE_HU
    cavity = (x / across) ** 2 + (y / deep) ** 2 <= 1.0
    hu[cavity], label[cavity] = LUNG_HU, LABELS["lung"]
    _paint_middle(body, canvas, cavity)
    for dome, tissue in zip(body.domes, (LIVER_HU, 42.0, LIVER_HU), strict=True):
        canvas.paint(dome, tissue, LABELS["liver"], within=cavity)
    if body.stomach_gas is not None:
        canvas.paint(body.stomach_gas, AIR_HU, LABELS["gas"], over=LABELS["liver"])
    canvas.paint_all(body.pericardium, FAT_HU, LABELS["fat_of_heart"])
    hu[~cavity & (label == LABELS["fat_of_heart"])] = MUSCLE_HU
    label[~cavity & (label == LABELS["fat_of_heart"])] = LABELS["body"]
    canvas.paint_all(body.chambers, body.blood_hu + 4.0, LABELS["heart"])
    canvas.paint_all(body.vessels, body.blood_hu, LABELS["vessel"])
    for part in body.aorta:
        canvas.paint_all(part, body.blood_hu, LABELS["aorta"])
    canvas.paint_all(body.windpipe, MUSCLE_HU, LABELS["vessel"])
    canvas.paint_all(body.airways, AIR_HU, LABELS["airway"])
    _paint_bones(body, canvas, z)
    for course in body.courses.values():
        canvas.paint_all(tube(course, 1.8), body.blood_hu, LABELS["artery"])
    for name, tissue, shapes in body.decoys:
        canvas.paint_all(shapes, tissue, LABELS[name])


def _paint_middle(body: Body, canvas: Canvas, cavity: NDArray[np.bool_]) -> None:
    """Fat between the lungs: before the spine, about the vessels, behind the sternum."""
    fat, label = FAT_HU, LABELS["fat_of_mediastinum"]
    z = canvas.z
    deep = body.cavity[1]
    thick = 14.0 + 1.6 * body.fat_mm
    center_x = float(body.heart_center[0])
    behind = ellipsoid(vector(8.0, body.spine_y - 6.0, z), [thick + 14.0, 26.0, 9.0])
    canvas.paint(behind, fat, label, within=cavity)
    front = ellipsoid(vector(0.3 * center_x, -deep + 6.0, z), [0.7 * thick, 30.0, 9.0])
    canvas.paint(front, fat, label, within=cavity)
    rise = z - 30.0
    if rise > 0.0:
        width = min(rise, 14.0) / 14.0 * (26.0 + 1.5 * body.fat_mm)
        around = ellipsoid(vector(0.4 * center_x, 0.5 * body.heart_center[1], z), [width, 42, 9])
        canvas.paint(around, fat, label, within=cavity)


def _paint_bones(body: Body, canvas: Canvas, z: float) -> None:
    label = LABELS["bone"]
    x, y = canvas.x, canvas.y[:, None]
    y0 = body.spine_y + 3.0 * np.sin(z / 90.0)
    back = y0 + 15.0
    height = z % 27.0
    outer = (x / 18.5) ** 2 + ((y - back) / 15.0) ** 2
    muscle = ((np.abs(x) - 24.0) / 20.0) ** 2 + ((y - back - 26.0) / 22.0) ** 2 <= 1.0
    canvas.hu[muscle], canvas.label[muscle] = MUSCLE_HU, LABELS["body"]
    disc = height < 5.0
    inner = outer <= 0.8
    canvas.hu[outer <= 1.0] = 85.0 if disc else 560.0
    canvas.hu[inner] = 85.0 if disc else 205.0
    canvas.label[outer <= 1.0] = label
    ring = (x / 17.0) ** 2 + ((y - back - 22.0) / 14.0) ** 2
    canal = (x / 10.0) ** 2 + ((y - back - 22.0) / 8.5) ** 2 <= 1.0
    posterior = (ring <= 1.0) & (outer > 1.0)
    canvas.hu[posterior], canvas.label[posterior] = 430.0, label
    process = (np.abs(x) <= 4.0) & (np.abs(y - back - 45.0) <= 12.0)
    if height > 9.0:
        canvas.hu[process], canvas.label[process] = 380.0, label
    wings = (np.abs(x) <= 38.0) & (np.abs(y - back - 20.0) <= 5.0) & (outer > 1.0)
    if 8.0 < height < 18.0:
        canvas.hu[wings], canvas.label[wings] = 360.0, label
    canvas.hu[canal], canvas.label[canal] = 25.0, LABELS["body"]
    for shape in body.cartilage:
        canvas.paint(shape, 95.0, LABELS["body"])
    for shape, tissue in body.bones:
        canvas.paint(shape, tissue, label)
