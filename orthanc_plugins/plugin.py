"""Orthanc's entry into radloop: reads its settings, starts the router, registers the routes."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orthanc

from orthanc_plugins.arrivals import moment
from orthanc_plugins.door import DOOR
from orthanc_plugins.router import Router

JOB = "[0-9a-f]{40}"
SERIES = "[0-9a-f]{8}(?:-[0-9a-f]{8}){4}"
MOST_STUDIES = 200


def _log(text: str) -> None:
    if DOOR.is_open:
        orthanc.LogWarning(text)


def _start(settings: dict[str, Any]) -> Router:
    started_at = moment()
    router = Router(settings, _log, started_at)
    try:
        # Now, because Orthanc opens its ports only after this.
        router.first_aid()
    except BaseException as error:  # noqa: BLE001 - nothing may cross into Orthanc
        _log(f"radloop: first aid {type(error).__name__}")

    def when_ready() -> None:
        # The database may not be asked before Orthanc is up, and an event for that would cost
        # a Python call for every instance; its HTTP port opens last.
        port = int(json.loads(orthanc.GetConfiguration())["HttpPort"])
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            except OSError:
                time.sleep(0.05)
        if not DOOR.watch(port):
            _log("radloop: Orthanc's port is not seen; stopping it may take long")
        router.start()

    threading.Thread(target=when_ready, name="radloop-start", daemon=True).start()
    return router


def _route(
    path: str, method: str, answer: Callable[[Any, dict[str, Any]], tuple[int, Any]]
) -> None:
    def callback(output: Any, _uri: str, **request: Any) -> None:
        try:
            if request["method"] != method:
                output.SendMethodNotAllowed(method)
                return
            status, value = answer(request["groups"], request.get("get") or {})
        except BaseException as error:  # noqa: BLE001 - nothing may cross into Orthanc
            _log(f"radloop: route {type(error).__name__}")
            status, value = 500, {"code": "internal_error"}
        body = json.dumps(value, separators=(",", ":"))
        if status == 200:
            output.AnswerBuffer(body, "application/json")
        else:
            output.SendHttpStatus(status, body, len(body))

    orthanc.RegisterRestCallback(path, callback)


def _register(router: Router) -> None:
    def found(value: Any) -> tuple[int, Any]:
        return (200, value) if value is not None else (404, {"code": "not_found"})

    def run(groups: Any, _get: dict[str, Any]) -> tuple[int, Any]:
        job = router.run_again(groups[0], groups[1] if groups[1] != "-" else "")
        return (200, {"job": job}) if job else (409, {"code": "no_rule"})

    def report(groups: Any, _get: dict[str, Any]) -> tuple[int, Any]:
        more = json.loads(base64.urlsafe_b64decode(groups[3]))
        state = router.report(groups[0], groups[1], groups[2], more)
        return (200, {"state": state}) if state else (404, {"code": "not_found"})

    def jobs(_groups: Any, get: dict[str, Any]) -> tuple[int, Any]:
        limit = get.get("limit", "200")
        return 200, router.jobs_view(
            get.get("state", ""), min(int(limit) if limit.isdigit() else 200, 5_000)
        )

    def states(_groups: Any, get: dict[str, Any]) -> tuple[int, Any]:
        asked = re.findall(SERIES, get.get("studies", ""))
        return 200, router.states_view(dict.fromkeys(asked[:MOST_STUDIES]))

    _route("/radloop/states", "GET", states)
    _route("/radloop/status", "GET", lambda _groups, _get: (200, router.status_view()))
    _route("/radloop/jobs", "GET", jobs)
    _route("/radloop/reconcile", "POST", lambda *_: (200, {"repaired": router.reconcile()}))
    _route("/radloop/sweep", "POST", lambda *_: (200, router.sweep()))
    _route(f"/radloop/studies/({SERIES})", "GET", lambda g, _: found(router.study_view(g[0])))
    _route(f"/radloop/series/({SERIES})", "GET", lambda g, _: found(router.series_view(g[0])))
    _route(f"/radloop/series/({SERIES})/run/([a-z0-9_-]+)", "POST", run)
    # The report travels in the path: this Orthanc never frees the body of a request that a
    # Python route answers.
    _route(
        f"/radloop/series/({SERIES})/jobs/({JOB})/([a-z]+)/([A-Za-z0-9_=-]{{2,6000}})",
        "POST",
        report,
    )


def _main() -> None:
    # A core of a crashed Orthanc would hold images and names, and delay the next start.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path = os.environ["RADLOOP_PLUGIN_CONFIG"]
    settings = {**json.loads(Path(path).read_text("utf-8")), "settings_file": path}
    if settings.get("version") != 1:
        raise ValueError("plugin settings: version 1 expected")
    _register(_start(settings))
    explorer = Path(__file__).with_name("explorer.js").read_text("utf-8")
    orthanc.ExtendOrthancExplorer(explorer)


_main()
