"""Peak memory of an analysis of a 512x512x600 CT, in int16 volumes of that size."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.phantom import Scan, random_phantom
from tests.bench.rig import emit

SLICES, VOLUME_MB = 600, 512 * 512 * 600 * 2 / 1e6
_JOB = """
import sys, threading, time
from pathlib import Path
from ai_nodes.analysis import analyse
from ai_nodes.registry import PIPELINES
from dicom_services.dicom.write import to_bytes

def family():
    # Proportional set size counts a page that parent and child share once.
    total = 0
    for pid in [str(__import__("os").getpid()), *children()]:
        try:
            for line in open(f"/proc/{pid}/smaps_rollup"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total
def children():
    me = __import__("os").getpid()
    try:
        return open(f"/proc/{me}/task/{me}/children").read().split()
    except OSError:
        return []
PIPELINES["calcium"].warm()
base, peak, going = family(), [0], [True]
def watch():
    while going[0]:
        peak[0] = max(peak[0], family())
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).glob("*.dcm"))]
outcome = analyse(files, PIPELINES["calcium"], {})
stored = [to_bytes(one) for one in outcome.objects]
going[0] = False
time.sleep(0.1)
print(outcome.state, base, peak[0])
"""


def main() -> None:
    """A worker keeps the fetched files in memory: they are one of the volumes counted."""
    scan = Scan(spacing_mm=0.4, top_mm=120.0, bottom_mm=120.0 - 0.4 * (SLICES - 0.5))
    with tempfile.TemporaryDirectory() as folder:
        phantom = random_phantom(3, "chest", scan=scan)
        write_ct_series(phantom.volume, Path(folder), seed="bench-memory")
        del phantom
        done = subprocess.run(
            [sys.executable, "-c", _JOB, folder], capture_output=True, text=True, check=True
        )
    state, base, peak = done.stdout.split()
    emit(
        "memory_600_slices",
        state=state,
        volumes=round((int(peak) - int(base)) / 1e6 / VOLUME_MB, 2),
        with_libraries_volumes=round(int(peak) / 1e6 / VOLUME_MB, 2),
        target="<= 4 int16 volumes",
        peak_mb=round(int(peak) / 1e6),
    )


if __name__ == "__main__":
    main()
