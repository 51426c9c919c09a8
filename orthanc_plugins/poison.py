"""Instances that may end a reader: recognised after a crash or on upload, put into quarantine."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from dicom_services.gate import Refusal, refusal_of_file
from dicom_services.quarantine import Quarantine, digest_of_uid
from orthanc_plugins import archive, stored_files
from orthanc_plugins.breadcrumb import Breadcrumb, Crumb
from orthanc_plugins.crashes import last_fault
from orthanc_plugins.poison_notes import Notes, Removal
from orthanc_plugins.probe import probe
from orthanc_plugins.stored_files import Storage

STRIKES: Final = 2
"""Crashes in a row while one instance was read, without one reading of it that ended."""
FIRST_AID_S: Final = 1.5
"""How long Orthanc's start may wait for the search after a crash."""
SETTLED_S: Final = 1.1
"""supervisord holds what ends within its first second for broken and starts it ever more slowly.
A crash of an Orthanc that opened its ports after that is none of these."""
SEARCHED: Final = 20_000
"""The files last touched, among which the cause of a crash is looked for."""
MOST_NAMED: Final = 1_000
"""Instances in quarantine that one study names."""
PAGE: Final = 200
_POISON: Final = Refusal("poison", 0)

Removed = Callable[[str, str], None]
"""Told study and series of an instance that was taken away."""


class Poison:
    """Finds dangerous instances and takes them away.

    After a crash, the instance that the plugin was reading, else the files last touched, are
    judged by the gate and then read once in a child process. What is nested too deeply or kills
    that child is taken away before Orthanc opens its ports. The child convicts and never acquits:
    an instance that was being read at two crashes in a row is taken away as well.
    """

    def __init__(self, settings: Mapping[str, Any], log: Callable[[str], None]) -> None:
        run = Path(settings["run"])
        self._scale = float(settings["object_scale"])
        self._log = log
        self.storage = Storage(Path(settings["storage"]))
        # Twice the room of what modalities may fill: poison has to go somewhere.
        self._quarantine = Quarantine(
            Path(settings["quarantine"]),
            2 * int(settings["quarantine_bytes"]),
            2 * int(settings["quarantine_records"]),
        )
        self._crumbs = Breadcrumb(run / "reading")
        self._notes = Notes(run / "poison.json")
        self._lock = threading.Lock()
        self.fault = last_fault(Path(settings["supervisor_log"]))
        self.unexplained = False
        self.taken = 0

    # --- before Orthanc opens its ports ------------------------------------------------------

    def first_aid(self) -> None:
        """After a crash, find its cause and take the file away, within FIRST_AID_S."""
        if not self.fault:
            return
        began_s = time.monotonic()
        crumb = self._crumbs.left
        found = self._of_crumb(crumb) if crumb else 0
        if not found:
            found = self._search(FIRST_AID_S - (time.monotonic() - began_s))
        if not found and crumb:
            found = self._strike(crumb)
        self.unexplained = not found
        code, count = self.fault, found
        self._log(f"radloop: after {code}: {count} instances set aside")
        time.sleep(max(0.0, began_s + SETTLED_S - time.monotonic()))

    def _of_crumb(self, crumb: Crumb) -> int:
        with suppress(OSError, ValueError):
            path = self.storage.path(crumb.file)
            refusal = self.danger(path, within_s=FIRST_AID_S / 2)
            return int(refusal is not None and self._set_aside(path, refusal, crumb.instance))
        return 0

    def _search(self, within_s: float) -> int:
        """Those that the gate calls dangerous; if there is none, those that kill a reader."""
        until_s = time.monotonic() + within_s
        names = self.storage.last_touched(SEARCHED, within_s / 3)
        # A client that asks again at once must not keep us at the first ones for ever.
        at = self._notes.searched % max(len(names), 1)
        paths = [self.storage.path(name) for name in (*names[at:], *names[:at])]
        found = tried = 0
        for path in paths:
            if time.monotonic() > until_s - within_s / 3:
                break
            refusal = _refusal(path)
            if refusal is not None and refusal.reason == "depth":
                found += self._set_aside(path, refusal)
        if not found:
            deadly, tried = probe(paths, until_s - time.monotonic())
            found = sum(self._set_aside(path, _POISON) for path in deadly)
        self._notes.search_from(0 if found else at + tried)
        return found

    def _strike(self, crumb: Crumb) -> int:
        count = self._notes.strike(crumb.instance)
        self._log(f"radloop: crash {count} while one and the same instance was read")
        if count < STRIKES:
            return 0
        with suppress(ValueError):
            return int(self._set_aside(self.storage.path(crumb.file), _POISON, crumb.instance))
        return 0

    def danger(self, path: Path, within_s: float) -> Refusal | None:
        """Why a stored file may end a reader; None where nothing says so.

        What the gate finds fault with for another reason than depth was stored once and is left
        alone, unless it kills a reader.
        """
        refusal = _refusal(path)
        if refusal is not None and refusal.reason == "depth":
            return refusal
        return _POISON if probe([path], within_s).deadly else None

    def _set_aside(self, path: Path, refusal: Refusal, instance: str = "") -> bool:
        """Body into quarantine and out of Orthanc's reach; whether it is."""
        removal = Removal(path.name, instance, is_poison=True)
        try:
            with stored_files.raw(path) as data:
                digest = digest_of_uid(stored_files.sop_instance_uid(data))
            is_kept = self._keep(path, refusal, "poison", digest)
            self._notes.remove_later(removal)
            if is_kept:
                path.unlink()
            else:
                self._move(path)
            self._quarantine.mark_poison(digest)
        except OSError as error:
            self._log(f"radloop: into quarantine: {type(error).__name__}")
            return not path.exists()
        return True

    def _keep(self, path: Path, refusal: Refusal, source: str, digest: str) -> bool:
        name = self._quarantine.keep(
            path,
            reason=refusal.reason,
            offset=refusal.offset,
            source=source,
            sender="",
            sop_instance_digest=digest,
        )
        try:
            return self._quarantine.record(name).kept
        except LookupError:
            return False

    def _move(self, path: Path) -> None:
        """Without a record, where there is no room for a copy: it must not stay in reach."""
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}000-{secrets.token_hex(4)}.dcm"
        path.rename(self._quarantine.folder / name)
        self._log("radloop: quarantine is full; a file was moved there without a record")

    # --- while Orthanc runs ------------------------------------------------------------------

    def facts(self, instance: str) -> dict[str, Any]:
        """`archive.facts`, leaving word of what is being read.

        Raises
        ------
        ValueError
            When it has ended readers before and could not be taken away.
        """
        described = archive.instance(instance)
        if described is None:
            return {}
        if self._notes.strikes(instance) >= STRIKES:
            raise ValueError("not read again")
        with self._crumbs.at(Crumb(instance, str(described["FileUuid"]))):
            found = archive.facts(instance)
        self._notes.acquit(instance)
        return found

    def screen(self, instances: Sequence[str], removed: Removed) -> None:
        """Judge, before anything reads it, what came by another way than the front."""
        for instance in instances:
            if archive.origin(instance) not in ("", "DicomProtocol"):
                described = archive.instance(instance)
                if described is not None:
                    self._screen(instance, described, removed)

    def _screen(self, instance: str, described: Mapping[str, Any], removed: Removed) -> None:
        path = self.storage.path(str(described["FileUuid"]))
        digest = digest_of_uid(str(described["MainDicomTags"].get("SOPInstanceUID", "")))
        refusal = _refusal(path, self._scale)
        if refusal is None and self._quarantine.is_poison(digest):
            refusal = _POISON
        if refusal is None:
            self._name(instance, str(described["ParentSeries"]), is_taken=False)
        elif self._keep(path, refusal, "upload", digest):
            code = refusal.reason
            self._log(f"radloop: an upload went into quarantine: {code}")
            self._take_away(Removal(path.name, instance, is_poison=False), removed)
        else:
            # Whoever sent it was told that it is stored: better unread than lost.
            self._log("radloop: quarantine is full; a refused upload stays, unread")
            self._notes.strike(instance, STRIKES)

    def convict(self, path: Path, refusal: Refusal, removed: Removed) -> None:
        """Take away a stored file that was found to be dangerous."""
        if self._set_aside(path, refusal):
            self.finish(removed)

    def finish(self, removed: Removed) -> None:
        """Have the index forget what is in quarantine."""
        for removal in self._notes.removals:
            known = removal.instance or self._instance_of(removal.file)
            if known:
                self._take_away(removal._replace(instance=known), removed)
                self._notes.acquit(known)
            self._notes.removed(removal)

    def _take_away(self, removal: Removal, removed: Removed) -> None:
        """Out of Orthanc; its study keeps the number."""
        described = archive.instance(removal.instance)
        if described is None:
            return
        if removal.is_poison:
            uid = str(described["MainDicomTags"].get("SOPInstanceUID", ""))
            self._quarantine.mark_poison(digest_of_uid(uid))
        series = str(described["ParentSeries"])
        study = self._name(removal.instance, series, is_taken=True)
        archive.delete_instance(removal.instance)
        self.taken += 1
        if study:
            removed(study, series)

    def _name(self, instance: str, series: str, *, is_taken: bool) -> str:
        """Have the study name an instance that was taken away, or no more one that came back."""
        parent = archive.series(series)
        if parent is None:
            return ""
        study = str(parent["ParentStudy"])
        with self._lock:
            taken = archive.quarantined(study)
            names = taken.setdefault(series, [])
            if is_taken and instance not in names and len(names) < MOST_NAMED:
                archive.note_quarantined(study, {**taken, series: [*names, instance]})
            elif not is_taken and instance in names:
                names.remove(instance)
                archive.note_quarantined(study, taken)
        return study

    def _instance_of(self, file: str) -> str:
        """The id of the instance whose body is that file; "" where no instance names it."""
        since = 0
        while page := archive.instances(since, PAGE):
            for described in page:
                if described.get("FileUuid") == file:
                    return str(described["ID"])
            since += len(page)
            # Others want Python's lock, too.
            time.sleep(0.001)
        return ""


def _refusal(path: Path, scale: float = 1.0) -> Refusal | None:
    """The gate's judgement of a stored file; None of one that has gone meanwhile."""
    with suppress(OSError), stored_files.raw(path) as data:
        return refusal_of_file(data, scale=scale)
    return None
