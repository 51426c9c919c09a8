"""What the Agatston score is made of: thresholds, weights, least area, and the mass factor."""

from __future__ import annotations

import math
from typing import Final

STEPS_HU: Final = (130.0, 200.0, 300.0, 400.0)
"""Where the weights 1, 2, 3 and 4 begin (Agatston 1990, Methods)."""

MIN_AREA_MM2: Final = 1.0
"""A lesion's least area in a slice (Agatston 1990, Methods)."""

STANDARD_SPACING_MM: Final = 3.0
"""Contiguous 3 mm slices are what the score was made for (Agatston 1990, Methods)."""

MASS_FACTOR: Final = 100.0 / 130.0 * 1e-3
"""mg of hydroxyapatite per mm3 and HU where no calibration is set, for 120 kVp.

McCollough 2007 puts 100 mg/cm3 in the place of 130 HU. A scanner's own factor differs by some
ten per cent, with the patient's size as well, so a mass from this one carries a warning.
"""

Steps = tuple[float, float, float, float]


def density_weight(peak_hu: float, steps_hu: Steps = STEPS_HU) -> int:
    """1 to 4 by a lesion's peak in a slice; 0 below the first step.

    With another first step T the weight 1 spans T to 199 HU.
    """
    if not peak_hu >= steps_hu[0]:
        return 0
    return 1 + sum(peak_hu >= step for step in steps_hu[1:])


def least_pixels(min_area_mm2: float, pixel_area_mm2: float) -> int:
    """The fewest pixels that reach an area; 100 of 0.01 mm2 reach 1 mm2, whatever floats say."""
    return max(1, math.ceil(min_area_mm2 / pixel_area_mm2 - 1e-6))
