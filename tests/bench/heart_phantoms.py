"""`python -m tests.bench.heart_phantoms [FILE]`: the heart's region on random phantoms, as a table.

Prints the table and, where a file is named, writes it there.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_nodes.ops.heart import heart_region
from dicom_services.body import DECOYS, LABELS, VESSELS
from dicom_services.domain.volume import Volume
from dicom_services.phantom import Phantom, View, random_phantom, weight_of

SEEDS = range(1000, 1018)
MATRIX = 512
FIRST_CALCIUM = 20
OTHER = "bone_and_noise"


@dataclass
class Tally:
    """What was seen in the phantoms of one view."""

    phantoms: int = 0
    found: int = 0
    planted: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)
    decoy_score: Counter[str] = field(default_factory=Counter)
    decoy_voxels: Counter[str] = field(default_factory=Counter)
    kept_score: Counter[str] = field(default_factory=Counter)
    kept_voxels: Counter[str] = field(default_factory=Counter)
    plan: float = 0.0
    seconds: list[float] = field(default_factory=list)
    megavoxels: list[float] = field(default_factory=list)


def score_by_label(
    ct: Volume, labels: NDArray[np.uint8], where: NDArray[np.bool_] | None
) -> tuple[Counter[str], Counter[str]]:
    """Agatston score (not corrected for spacing) and voxels of counted parts, by what they are.

    A part of a slice belongs to the highest label in it: lesion, then decoy, then tissue.
    """
    names = {label: name for name, label in LABELS.items()}
    score: Counter[str] = Counter()
    voxels: Counter[str] = Counter()
    area = ct.geometry.pixel_area_mm2
    for k in range(ct.geometry.shape[0]):
        solid = ct.values[k] >= 130
        if where is not None:
            solid &= where[k]
        parts, count = ndimage.label(solid, np.ones((3, 3)))
        if count == 0:
            continue
        index = np.arange(1, count + 1)
        sizes = np.bincount(parts.ravel())[1:]
        peaks = ndimage.maximum(ct.values[k], parts, index)
        kinds = ndimage.maximum(labels[k], parts, index)
        for size, peak, kind in zip(sizes, peaks, kinds, strict=True):
            if size * area >= 1.0:
                name = names[int(kind)] if kind >= FIRST_CALCIUM else OTHER
                score[name] += size * area * weight_of(int(peak))
                voxels[name] += int(size)
    return score, voxels


def look_at(made: Phantom, tally: Tally) -> None:
    """Find the region of one phantom and count."""
    begin = time.perf_counter()
    region = heart_region(made.volume)
    tally.seconds.append(time.perf_counter() - begin)
    tally.megavoxels.append(made.volume.values.size / 1e6)
    tally.phantoms += 1
    tally.found += region.found
    tally.plan += made.score
    for lesion in made.lesions:
        tally.planted[lesion.vessel] += 1
        tally.inside[lesion.vessel] += all(
            bool(region.mask[part.k, part.rows, part.columns].all()) for part in lesion.slices
        )
    score, voxels = score_by_label(made.volume, made.labels, None)
    tally.decoy_score.update(score)
    tally.decoy_voxels.update(voxels)
    score, voxels = score_by_label(made.volume, made.labels, region.mask)
    tally.kept_score.update(score)
    tally.kept_voxels.update(voxels)


def report(tallies: dict[str, Tally]) -> str:
    """The tables in Markdown."""
    lines = ["| | whole chest | box about the heart |", "|---|--:|--:|"]
    both = list(tallies.values())

    def row(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    row("phantoms", [str(t.phantoms) for t in both])
    row("heart found", [str(t.found) for t in both])
    for vessel in VESSELS:
        row(
            f"{vessel} lesions wholly inside",
            [f"{t.inside[vessel]} of {t.planted[vessel]}" for t in both],
        )
    row(
        "all lesions wholly inside",
        [f"{t.inside.total()} of {t.planted.total()}" for t in both],
    )
    row("planned Agatston score, sum", [f"{t.plan:.0f}" for t in both])
    row("of it scored in the region", [f"{t.kept_score['lesion']:.0f}" for t in both])
    row("median time, s", [f"{np.median(t.seconds):.2f}" for t in both])
    row("median million voxels", [f"{np.median(t.megavoxels):.0f}" for t in both])
    lines += [
        "",
        "False calcium: Agatston score and voxels in the whole CT, and left in the region.",
        "",
    ]
    lines += ["| what | chest: all | chest: left | box: all | box: left |", "|---|--:|--:|--:|--:|"]
    for name in [*DECOYS, OTHER]:
        cells = []
        for t in both:
            cells.append(f"{t.decoy_score[name]:.0f} ({t.decoy_voxels[name]})")
            cells.append(f"{t.kept_score[name]:.0f} ({t.kept_voxels[name]})")
        row(name.replace("_", " "), cells)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the phantoms, count, print; write into the file named on the command line."""
    tallies: dict[str, Tally] = {}
    views: tuple[View, View] = ("chest", "cardiac")
    for view in views:
        tallies[view] = Tally()
        for seed in SEEDS:
            look_at(random_phantom(seed, view, lesions=8, matrix=MATRIX), tallies[view])
            print(view, seed, file=sys.stderr, flush=True)
    table = report(tallies)
    print(table)
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        text = path.read_text(encoding="utf-8")
        begin, end = "<!-- table -->\n", "<!-- end of table -->\n"
        head, rest = text.split(begin)
        path.write_text(head + begin + table + end + rest.split(end)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
