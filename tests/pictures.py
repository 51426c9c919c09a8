"""Pictures in docs/, each made by one command: `python -m tests.pictures perfusion OUT.png`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ai_nodes.pipelines.perfusion import PIPELINE, analyse_perfusion
from dicom_services.domain.findings import Curve, Finding, Mask, ParametricMap
from dicom_services.perfusion_phantom import PerfusionPhantom, PerfusionScan, perfusion_phantom

Picture = Image.Image
INK, QUIET, PAPER = (235, 238, 242), (150, 158, 168), (16, 18, 22)
SCALE, GAP, HEAD = 3, 14, 30
UNITS = {"CBF": "ml/100 g/min", "CBV": "ml/100 g", "MTT": "s", "TTP": "s", "Tmax": "s"}
COLOURS: dict[str, Sequence[tuple[int, int, int]]] = {
    # Flow and volume: more is warmer. Times: later is warmer, so that a lesion stands out.
    "warm": [(0, 0, 0), (0, 0, 130), (0, 110, 200), (0, 190, 90), (250, 230, 0), (230, 30, 0)],
}


def perfusion(out: Path) -> None:
    """Maps, masks and curves of the DSC phantom, slice by slice, as the pipeline gives them."""
    phantom = perfusion_phantom(PerfusionScan("DSC"))
    found = analyse_perfusion(phantom.volume, {})
    slices = (3, 5)
    maps = [one for one in found if isinstance(one, ParametricMap)]
    tiles = [_baseline(phantom, slices)]
    tiles += [_map(one, slices) for one in maps]
    tiles += [_masks(phantom, found, slices), _curves(phantom, found, tiles[0].size)]
    _sheet(tiles, 4, PIPELINE.headline(found)).save(out, optimize=True)


def _grey(values: NDArray[np.generic], top: float) -> NDArray[np.uint8]:
    level = np.clip(np.asarray(values, np.float64) / top, 0.0, 1.0) * 255.0
    return np.repeat(level.astype(np.uint8)[..., None], 3, axis=-1)


def _coloured(values: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Values between the ends of a window by colour; black where there is none."""
    stops = np.array(COLOURS["warm"], np.float64)
    part = np.clip((np.nan_to_num(values) - window[0]) / (window[1] - window[0]), 0.0, 1.0)
    place = part * (len(stops) - 1)
    low = np.minimum(place.astype(int), len(stops) - 2)
    share = (place - low)[..., None]
    mixed = stops[low] * (1.0 - share) + stops[low + 1] * share
    mixed[~np.isfinite(values)] = 0.0
    return mixed.astype(np.uint8)


def _tile(rows: Sequence[NDArray[np.uint8]], title: str, side: Picture | None = None) -> Picture:
    """Slices above each other under a title, with a bar beside them."""
    stacked = np.concatenate([row[2:-2, 10:-10] for row in rows])
    image = Image.fromarray(stacked).resize(
        (stacked.shape[1] * SCALE, stacked.shape[0] * SCALE), Image.Resampling.NEAREST
    )
    tile = Image.new("RGB", (image.width + 62, image.height + HEAD), PAPER)
    tile.paste(image, (0, HEAD))
    _text(tile, (2, 5), title, INK, 17)
    if side is not None:
        tile.paste(side, (image.width + 6, HEAD + 12))
    return tile


def _baseline(phantom: PerfusionPhantom, slices: Sequence[int]) -> Picture:
    frame = phantom.volume.values[:5].mean(axis=0)
    tile = _tile([_grey(frame[k], 4500.0) for k in slices], "T2* before the bolus")
    _text(tile, (6, HEAD + 4), "R", INK, 15)
    _text(tile, (76 * SCALE - 16, HEAD + 4), "L", INK, 15)
    return tile


def _map(one: ParametricMap, slices: Sequence[int]) -> Picture:
    window = one.window or (0.0, 1.0)
    rows = [_coloured(one.values[k], window) for k in slices]
    return _tile(rows, f"{one.label}, {UNITS[one.label]}", _bar(window))


def _bar(window: tuple[float, float]) -> Picture:
    ramp = np.linspace(window[1], window[0], 200, dtype=np.float32)[:, None]
    colours = np.repeat(_coloured(ramp, window), 14, axis=1)
    bar = Image.new("RGB", (56, 226), PAPER)
    bar.paste(Image.fromarray(colours), (0, 12))
    for share in (0.0, 0.5, 1.0):
        value = window[0] + share * (window[1] - window[0])
        _text(bar, (18, 4 + round((1.0 - share) * 200)), f"{value:.3g}", QUIET, 14)
    return bar


def _masks(phantom: PerfusionPhantom, found: Sequence[Finding], slices: Sequence[int]) -> Picture:
    frame = phantom.volume.values[:5].mean(axis=0)
    painted = [_grey(frame[k], 4500.0).astype(np.float64) for k in slices]
    masks = [one for one in found if isinstance(one, Mask) and one.in_report]
    for one in masks:
        for row, k in zip(painted, slices, strict=True):
            row[one.values[k]] = 0.25 * row[one.values[k]] + 0.75 * np.array(one.color)
    plain = _tile([row.astype(np.uint8) for row in painted], "Tissue at risk, core")
    tile = Image.new("RGB", (plain.width, plain.height + 24 * len(masks)), PAPER)
    tile.paste(plain)
    for line, one in enumerate(masks):
        at = (8, plain.height + 8 + 24 * line)
        ImageDraw.Draw(tile).rectangle((*at, at[0] + 12, at[1] + 12), fill=one.color)
        _text(tile, (at[0] + 18, at[1] - 3), one.label, INK, 14)
    return tile


def _curves(phantom: PerfusionPhantom, found: Sequence[Finding], size: tuple[int, int]) -> Picture:
    """AIF, VOF and the mean of tissue, the last one scaled up, over the seconds of the scan."""
    tile = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(tile)
    _text(tile, (2, 5), "Curves, dR2* in 1/s", INK, 17)
    left, top, right, bottom = 40, HEAD + 14, size[0] - 12, size[1] // 2 + 20
    end = phantom.volume.times_s[-1]
    colours = {"AIF": (255, 90, 90), "VOF": (110, 150, 255), "Tissue": (120, 220, 130)}
    curves = [one for one in found if isinstance(one, Curve)]
    peak = max(max(one.values) for one in curves)
    draw.line((left, top, left, bottom, right, bottom), fill=QUIET)
    for time in range(0, int(end), 20):
        _text(
            tile, (left + round(time / end * (right - left)) - 6, bottom + 5), str(time), QUIET, 13
        )
    _text(tile, (right - 12, bottom + 22), "s", QUIET, 13)
    for level in (0, 40, 80):
        _text(tile, (8, bottom - round(level / peak * (bottom - top)) - 8), str(level), QUIET, 13)
    for line, one in enumerate(curves):
        factor = 10.0 if one.label == "Tissue" else 1.0
        points = [
            (left + t / end * (right - left), bottom - factor * v / peak * (bottom - top))
            for t, v in zip(one.times_s, one.values, strict=True)
        ]
        draw.line(points, fill=colours[one.label], width=2)
        name = f"{one.label}{' x 10' if factor > 1.0 else ''}"
        name += f", mean of {len(one.places)} voxels" if one.places else ", mean of the brain"
        _text(tile, (left, bottom + 46 + 22 * line), name, colours[one.label], 15)
    return tile


def _sheet(tiles: Sequence[Picture], across: int, line: str) -> Picture:
    width = max(tile.width for tile in tiles) + GAP
    height = max(tile.height for tile in tiles) + GAP
    down = -(-len(tiles) // across)
    sheet = Image.new("RGB", (across * width + GAP, down * height + GAP + 40), PAPER)
    for n, tile in enumerate(tiles):
        sheet.paste(tile, (GAP + n % across * width, GAP + n // across * height))
    _text(sheet, (GAP, sheet.height - 34), line, INK, 18)
    return sheet


def _text(
    image: Picture, at: tuple[int, int], words: str, colour: tuple[int, int, int], size: int
) -> None:
    ImageDraw.Draw(image).text(at, words, fill=colour, font=ImageFont.load_default(size))


PICTURES: dict[str, Callable[[Path], None]] = {"perfusion": perfusion}


def main() -> None:
    """Make one picture."""
    if len(sys.argv) != 3 or sys.argv[1] not in PICTURES:
        sys.exit(f"usage: python -m tests.pictures {'|'.join(PICTURES)} OUT.png")
    PICTURES[sys.argv[1]](Path(sys.argv[2]))


if __name__ == "__main__":
    main()
