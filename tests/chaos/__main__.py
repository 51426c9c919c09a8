"""`python -m tests.chaos --studies 300 --kills 200 --seed 1`: JSON lines, the verdict last."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from typing import Final, NoReturn

from tests.chaos.campaign import campaign, emit
from tests.chaos.faults import FAULTS
from tests.chaos.rig import work_folder

_AFTERWARDS_S: Final = 900.0
"""For settling and judging, after the last fault at the latest."""
_SHOWN: Final = 20


class OutOfTimeError(Exception):
    """The whole run took longer than it may."""


def main() -> int:
    """0 when everything held, 1 when something did not, 2 when it could not be told."""
    words = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    words.add_argument("--studies", type=int, default=300)
    words.add_argument("--kills", type=int, default=200)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--minutes", type=float, default=45.0, help="limit of the faults")
    words.add_argument("--faults", default="", help="names, by commas; " + " ".join(FAULTS))
    words.add_argument("--keep", action="store_true", help="leave corpus and profile behind")
    chosen = words.parse_args()
    names = tuple(name for name in chosen.faults.split(",") if name)
    if chosen.studies < 1 or chosen.kills < 1 or set(names) - FAULTS.keys():
        words.error("studies and kills are at least 1, faults are known names")
    seconds = chosen.minutes * 60.0
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.signal(signal.SIGTERM, _out_of_time)
    signal.setitimer(signal.ITIMER_REAL, seconds + _AFTERWARDS_S)
    asked = {"studies": chosen.studies, "kills_asked": chosen.kills, "seed": chosen.seed}
    try:
        with work_folder(chosen.keep) as work:
            if chosen.keep:
                emit("folder", path=str(work))
            deadline = time.monotonic() + seconds
            verdict = campaign(work, chosen.studies, chosen.kills, chosen.seed, deadline, names)
    except (OutOfTimeError, KeyboardInterrupt) as error:
        emit("verdict", passed=False, **asked, unfinished=type(error).__name__)
        return 2
    except Exception as error:  # noqa: BLE001 - whatever it is, the last line is a verdict
        traceback.print_exc()
        emit("verdict", passed=False, **asked, unfinished=type(error).__name__)
        return 2
    for kind, about in verdict.violations.items():
        emit("violation", kind=kind, count=len(about), about=about[:_SHOWN])
    counts = {kind: len(about) for kind, about in verdict.violations.items()}
    emit("verdict", passed=not counts, **asked, violations=counts, **verdict.figures)
    return 1 if counts else 0


def _out_of_time(*_: object) -> NoReturn:
    raise OutOfTimeError


if __name__ == "__main__":
    sys.exit(main())
