"""One run: studies are sent while faults come one after another, then all is judged."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dicom_services.errors import MissingError, RadloopError
from tests.chaos.corpus import ChaosStudy, make_corpus
from tests.chaos.faults import FAULTS, deck, share
from tests.chaos.judge import Verdict, judge
from tests.chaos.modality import Account, Modality
from tests.chaos.rig import Rig, orphans, running_rig
from tests.chaos.watch import Watch
from tests.pacs import FINAL, view_of

SENDERS: Final = 3
RECOVERY_LIMIT_S: Final = 90.0
SETTLE_LIMIT_S: Final = 420.0
"""An abandoned job is noticed after 75 s, tried again after 20 s; several times over."""
_AHEAD: Final = 3
"""So many studies are sent before the first fault, so that there is work to hit."""
_PAUSE_S: Final = (0.2, 1.5)


def emit(what: str, **figures: Any) -> None:
    """One JSON line."""
    print(json.dumps({"chaos": what, **figures}), flush=True)


@dataclass(slots=True)
class Log:
    """What was done: an entry for each fault that hit, and how often one found nothing to hit.

    `released` is the number of studies that may have been sent by now.
    """

    hits: list[dict[str, Any]] = field(default_factory=list)
    released: float = _AHEAD
    skipped: Counter[str] = field(default_factory=Counter)


def campaign(
    work: Path, studies: int, kills: int, seed: int, deadline: float, names: tuple[str, ...] = ()
) -> Verdict:
    """Run it in `work`; the verdict holds violations and figures.

    Parameters
    ----------
    deadline : float
        Of the monotonic clock: faults end here at the latest, and what is left undone is a
        violation.
    names : tuple of str
        The faults to choose from; all of them where there are none.
    """
    began = time.monotonic()
    corpus = make_corpus(work / "corpus", studies, seed)
    emit("corpus", studies=studies, seconds=_since(began), kinds=Counter(s.kind for s in corpus))
    verdict, log, account, stop = Verdict(), Log(), Account(), threading.Event()
    with running_rig(work, studies, seed) as rig:
        watch, probe = Watch(rig), rig.modality(account, stop, direct=True)
        if not _wait(lambda: rig.answers(probe), 60.0):
            raise RuntimeError("the stack does not answer although nothing was done to it")
        emit("up", seconds=_since(began), disks=sorted(rig.disks), programs=sorted(rig.processes()))
        watch.start()
        senders = _send_all(rig, corpus, account, stop, log, seed)
        try:
            _hurt(rig, probe, log, kills, seed, deadline, names, studies / kills)
            log.released = studies
            quiet = time.monotonic()
            _wait(lambda: not any(sender.is_alive() for sender in senders), SETTLE_LIMIT_S)
            settled = _wait(lambda: _settled(rig, corpus), SETTLE_LIMIT_S)
            emit("settled", settled=settled, seconds=_since(quiet))
            with rig.orthanc(60.0) as orthanc:
                watch.sample(orthanc)
                watch.stop()
                judge(orthanc, corpus, account.acknowledged, verdict)
        finally:
            stop.set()
            watch.stop()
        _close(rig, verdict, log, account, watch, kills)
    verdict.figures["seconds"] = _since(began)
    return verdict


def _send_all(
    rig: Rig,
    corpus: Sequence[ChaosStudy],
    account: Account,
    stop: threading.Event,
    log: Log,
    seed: int,
) -> list[threading.Thread]:
    """Senders that share the corpus and keep pace with the faults."""
    turns = iter(corpus)
    lock = threading.Lock()
    modality = rig.modality(account, stop)

    def work(draw: random.Random) -> None:
        while True:
            with lock:
                study = next(turns, None)
            if study is None:
                return
            while study.number >= log.released and not stop.wait(0.05):
                pass
            if not modality.send(study, draw):
                return

    threads = [
        threading.Thread(target=work, args=(random.Random(seed + n),), daemon=True)
        for n in range(SENDERS)
    ]
    for thread in threads:
        thread.start()
    return threads


def _hurt(
    rig: Rig,
    probe: Modality,
    log: Log,
    kills: int,
    seed: int,
    deadline: float,
    names: tuple[str, ...],
    studies_a_fault: float,
) -> None:
    draw = random.Random(seed)
    for name in deck(draw, names):
        if len(log.hits) >= kills or time.monotonic() > deadline:
            return
        if sum(log.skipped.values()) > kills + 10:
            return
        time.sleep(draw.uniform(*_PAUSE_S))
        log.released += studies_a_fault * share(name, names)
        began = time.monotonic()
        facts = FAULTS[name][1](rig, draw)
        if facts is None:
            log.skipped[name] += 1
            continue
        lifted = began + float(facts.get("held_s", 0.0))
        answered = _wait(lambda: rig.answers(probe), RECOVERY_LIMIT_S + 60.0)
        facts |= {"recovery_s": round(time.monotonic() - lifted, 2), "answered": answered}
        log.hits.append({"kind": name, **facts})
        emit("fault", number=len(log.hits), of=kills, kind=name, at_s=round(began), **facts)


def _settled(rig: Rig, corpus: Sequence[ChaosStudy]) -> bool:
    """Whether nothing arrives, waits or runs any more."""
    try:
        with rig.orthanc(20.0) as orthanc:
            status = orthanc.status()
            last = int(orthanc.get_json("/changes?last")["Last"])
            ended = {"done", "refused", "failed", "superseded"}
            if status["position"] < last or status["arriving_studies"]:
                return False
            if any(count for state, count in status["jobs"].items() if state not in ended):
                return False
            views = (view_of(orthanc, study.uid) for study in corpus)
            return all(view["state"] in FINAL and not view["arriving"] for view in views)
    except (RadloopError, MissingError):
        return False


def _close(
    rig: Rig, verdict: Verdict, log: Log, account: Account, watch: Watch, kills: int
) -> None:
    """What else must hold, and the figures of the run."""
    if len(log.hits) < kills:
        verdict.add("faults_not_done", f"{len(log.hits)} of {kills}")
    for hit in log.hits:
        if not hit["answered"] or hit["recovery_s"] > RECOVERY_LIMIT_S:
            verdict.add("recovery", f"{hit['kind']}: {hit['recovery_s']} s")
    for sentence in watch.violations:
        verdict.add("shown_too_early", sentence)
    for pid in orphans(rig.folder):
        verdict.add("orphan_process", str(pid))
    recovery = [float(hit["recovery_s"]) for hit in log.hits] or [0.0]
    verdict.figures |= {
        "kills": len(log.hits),
        "kinds": dict(Counter(str(hit["kind"]) for hit in log.hits)),
        "skipped": dict(log.skipped),
        "recovery_max_s": max(recovery),
        "recovery_median_s": round(statistics.median(recovery), 2),
        "associations": account.associations,
        "associations_broken": account.broken,
        "refusals": dict(account.refusals),
        "samples": watch.samples,
        "samples_unanswered": watch.unanswered,
        "restarts": {name: one.restarts for name, one in rig.processes().items()},
        "scratch_bytes": sum(
            path.stat().st_size
            for path in (rig.folder.home / "scratch").rglob("*")
            if path.is_file()
        ),
    }


def _wait(condition: Callable[[], bool], limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)
