"""Small disks of their own for parts of a data folder, filled to the last byte and freed again."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BALLAST: Final = ".ballast"
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Disk:
    """A tmpfs at `path`."""

    path: Path

    def fill(self) -> int:
        """Take every free byte; how many."""
        taken = 0
        size = _PIECE
        handle = os.open(self.path / _BALLAST, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            while size:
                try:
                    taken += os.write(handle, b"\0" * size)
                except OSError:
                    size //= 2
        finally:
            os.close(handle)
        return taken

    def free(self) -> None:
        """Give it all back."""
        with suppress(FileNotFoundError):
            (self.path / _BALLAST).unlink()

    def unmount(self) -> None:
        """Take the disk away, whoever still holds a file on it."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)


def mount(path: Path, megabytes: int) -> Disk | None:
    """A disk of its own at `path`; None where this user may not mount."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.getuid() != 0:
        return None
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(path)],
        check=False,
        capture_output=True,
    )
    return Disk(path) if done.returncode == 0 else None
