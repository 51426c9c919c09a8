"""Sustained load: 100-slice studies one after another, as fast as the stack ends them.

Two studies are always under way. RADLOOP_LOAD_MINUTES says for how long, two unless told.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom

from dicom_services.data_folder import DataFolder
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.orthanc import Orthanc
from dicom_services.phantom import Scan, random_phantom
from dicom_services.stack import connect
from dicom_services.supervision import Supervisor
from tests.bench.rig import emit, radloop, running_stack
from tests.hostile.scu import Scu

SLICES: Final = 100
UNDER_WAY: Final = 2
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
_PLACE: Final = "2.25.1" + 30 * "0"
_SAMPLE_S: Final = 5.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Sent:
    """One study: its number, when its last image was acknowledged, when its result was there."""

    number: int
    uid: str
    last_s: float
    ended_s: float = 0.0
    state: str = ""


def main() -> None:
    """Sends until the time is over, then waits for what is under way."""
    minutes = float(os.environ.get("RADLOOP_LOAD_MINUTES", "2"))
    slices = template()
    with running_stack() as data:
        radloop(data, "modality", "add", "BENCH", "127.0.0.1", "11112")
        folder = DataFolder(data)
        watch = Watch(folder)
        watch.start()
        began = time.monotonic()
        with connect(folder, folder.state()) as orthanc:
            sent = _send_all(folder, orthanc, slices, began + 60.0 * minutes)
        seconds = time.monotonic() - began
        watch.stop()
    waited = sorted(one.ended_s - one.last_s for one in sent)
    per_hour = 3600.0 * len(sent) / seconds
    emit(
        "load",
        minutes=round(seconds / 60.0, 1),
        studies=len(sent),
        slices=SLICES,
        states=dict(Counter(one.state for one in sent)),
        studies_per_hour=round(per_hour),
        ratio=round(per_hour / 600.0, 2),
        target=">= 1 (600 studies an hour)",
        last_image_to_result_s={
            "median": round(statistics.median(waited), 1),
            "p95": round(waited[int(0.95 * (len(waited) - 1))], 1),
            "most": round(waited[-1], 1),
        },
        **watch.figures(),
    )


def template() -> list[bytes]:
    """The data sets of one study, with a placeholder of fixed length for its UIDs."""
    spacing_mm = 2.3
    scan = Scan(spacing_mm=spacing_mm, bottom_mm=130.0 - (SLICES - 0.5) * spacing_mm)
    phantom = random_phantom(3, "chest", scan=scan)
    with tempfile.TemporaryDirectory() as made:
        paths = write_ct_series(phantom.volume, Path(made), seed="load")
        found = []
        for number, path in enumerate(paths):
            image = pydicom.dcmread(path)
            image.StudyInstanceUID = _PLACE + "001"
            image.SeriesInstanceUID = _PLACE + "002"
            image.FrameOfReferenceUID = _PLACE + "003"
            image.SOPInstanceUID = f"{_PLACE}1{number:02d}"
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            buffer = io.BytesIO()
            image.save_as(buffer)
            whole = buffer.getvalue()
            # After preamble, prefix and the group length comes the rest of the meta header.
            start = 144 + int.from_bytes(whole[140:144], "little")
            found.append(whole[start:])
    if len(found) != SLICES:
        raise SystemExit(f"the phantom has {len(found)} slices")
    return found


def _send_all(
    folder: DataFolder, orthanc: Orthanc, slices: list[bytes], until_s: float
) -> list[Sent]:
    sent: list[Sent] = []
    waiting: list[Sent] = []
    sender: threading.Thread | None = None
    number = 0
    while time.monotonic() < until_s or waiting or (sender and sender.is_alive()):
        free = sender is None or not sender.is_alive()
        if free and len(waiting) < UNDER_WAY and time.monotonic() < until_s:
            number += 1
            sender = threading.Thread(
                target=_send, args=(folder.state().dicom_port, slices, number, waiting)
            )
            sender.start()
        for one in list(waiting):
            found = orthanc.find("studies", {"StudyInstanceUID": one.uid})
            view = orthanc.get_json(f"/radloop/studies/{found[0]}") if found else {}
            if view.get("state") in ("done", "refused", "failed") and not view.get("arriving"):
                one.ended_s, one.state = time.monotonic(), str(view["state"])
                waiting.remove(one)
                sent.append(one)
        time.sleep(0.1)
    return sent


def _send(port: int, slices: list[bytes], number: int, waiting: list[Sent]) -> None:
    place = f"2.25.1{number:030d}"
    with Scu(port, [(CT, EXPLICIT)], calling="BENCH", timeout_s=60.0) as scu:
        for count, data in enumerate(slices):
            mine = data.replace(_PLACE.encode(), place.encode())
            status, comment = scu.store(CT, f"{place}1{count:02d}", 1, mine, 131_060)
            if status:
                raise SystemExit(f"status {status:#x} {comment}")
    waiting.append(Sent(number, place + "001", time.monotonic()))


class Watch(threading.Thread):
    """Memory and processor time of each program, sampled while the load runs."""

    def __init__(self, folder: DataFolder) -> None:
        super().__init__(daemon=True)
        self._supervisor = Supervisor(folder)
        self._ended = threading.Event()
        self._memory: dict[str, list[float]] = defaultdict(list)
        self._cpu: dict[str, float] = defaultdict(float)
        self._last: dict[int, float] = {}
        self._began = time.monotonic()

    def run(self) -> None:
        """Until stopped."""
        while not self._ended.wait(_SAMPLE_S):
            for one in self._supervisor.processes():
                if not one.pid:
                    continue
                family = [one.pid, *_children(one.pid)]
                # A worker's horse comes and goes; its parent is what may grow.
                name = one.name.rpartition("_")[0] or one.name
                self._memory[name].append(_rss_mb(one.pid))
                self._cpu[name] += sum(self._spent(pid) for pid in family)

    def stop(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self.join()

    def figures(self) -> dict[str, object]:
        """Per program: MB after the first and in the last quarter, share of the processors."""
        seconds = time.monotonic() - self._began
        memory = {}
        for name, samples in self._memory.items():
            quarter = max(len(samples) // 4, 1)
            memory[name] = {
                "second_quarter": round(statistics.mean(samples[quarter : 2 * quarter])),
                "last_quarter": round(statistics.mean(samples[-quarter:])),
                "most": round(max(samples)),
            }
        share = {
            name: round(spent / seconds / (os.cpu_count() or 1), 3)
            for name, spent in self._cpu.items()
        }
        return {
            "rss_mb": memory,
            "processor_share": share,
            "bottleneck": max(share, key=lambda name: share[name]),
        }

    def _spent(self, pid: int) -> float:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        # With the children it has waited for: short ones fall between two samples.
        now = sum(int(fields[n]) for n in (11, 12, 13, 14)) / _TICKS
        before = self._last.get(pid, 0.0)
        self._last[pid] = now
        return max(now - before, 0.0)


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def _rss_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
