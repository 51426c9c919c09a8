"""Reading a structured report of any maker in a forked child with limits."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any, Final

import pydicom

from dicom_services.dicom.child import Limits, Send, start_child
from dicom_services.dicom.quiet import quiet
from dicom_services.dicom.sr_text import readable
from dicom_services.errors import InputError

LARGEST_BYTES: Final = 16 << 20
"""A report of a thousand measurements has one megabyte."""
_LIMITS: Final = Limits(
    memory_bytes=768 << 20, last_memory_bytes=768 << 20, cpu_s=20, last_cpu_s=20, wall_s=30.0
)


def read_report_limited(data: bytes) -> dict[str, Any]:
    """The file as `ReadableReport`, in plain dictionaries.

    Raises
    ------
    InputError
        `file_unreadable` when it is no DICOM file, `decoder_died` when reading it takes too much.
    """

    def work(send: Send) -> None:
        with quiet():
            try:
                dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001 - pydicom raises what it likes on broken files
                raise InputError("file_unreadable") from None
            send(asdict(readable(dataset)))

    (report,) = start_child(work, _LIMITS).messages()
    told: dict[str, Any] = report
    return told
