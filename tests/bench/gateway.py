"""The gateway's DICOMweb against bare Orthanc: series, frames as viewers ask, searches, STOW."""

from __future__ import annotations

import http.client
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from dicom_services.data_folder import DataFolder
from dicom_services.dicom.ct_writer import made_uid, write_ct_series
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Acquisition, Volume
from dicom_services.supervision import Supervisor
from tests.bench.rig import emit, radloop, running_stack, state

IMAGES, ROUNDS, PARALLEL, SEARCHES, MANY = 200, 9, 6, 60, 1000
SERIES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAME = "multipart/related; type=application/octet-stream; transfer-syntax=*"
PASSWORD = "a long Passphrase 4711"


@dataclass(frozen=True)
class Server:
    """One of the two that are compared."""

    port: int
    login: str

    def client(self) -> httpx.Client:
        headers = {"Authorization": self.login, "Accept-Encoding": "identity"}
        return httpx.Client(base_url=f"http://localhost:{self.port}", headers=headers, timeout=120)

    def stream(self, path: str, accept: str) -> int:
        """Bytes of one answer, read as fast as a socket gives them."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost:{self.port}\r\nAccept: {accept}\r\n"
                f"Authorization: {self.login}\r\nConnection: close\r\n\r\n".encode()
            )
            got, buffer = 0, memoryview(bytearray(1 << 20))
            while count := connection.recv_into(buffer):
                got += count
        return got

    def frames(self, paths: list[str]) -> None:
        """One after another over one connection, as a browser does with each of its six."""
        connection = http.client.HTTPConnection("localhost", self.port)
        headers = {"Authorization": self.login, "Accept": FRAME}
        for path in paths:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            if len(answer.read()) < 512 * 512 * 2 or answer.status != 200:
                raise SystemExit(f"a frame was answered with {answer.status}")
        connection.close()


def main() -> None:
    """Alternates the two servers, so that a busy machine is unkind to both alike."""
    with tempfile.TemporaryDirectory() as made, running_stack("--workers", "0") as data:
        ours, peer = _servers(data, Path(made))
        files = _series(Path(made))
        with peer.client() as client:
            for file in files:
                client.post("/instances", content=file).raise_for_status()
        study = made_uid("gateway", "study")
        series = _uids(ours, study)
        _bench_series(data, ours, peer, series[0])
        _bench_frames(data, ours, peer, series)
        _bench_searches(ours, peer, study, series[0])
        _bench_stow(ours, peer, files)
        _bench_many(ours, peer)


def _bench_series(data: Path, ours: Server, peer: Server, path: str) -> None:
    path = path.rsplit("/instances/", 1)[0]
    size = peer.stream(path, SERIES)
    if abs(ours.stream(path, SERIES) - size) > 64 << 10:
        raise SystemExit("the gateway's answer is not Orthanc's")
    mine, theirs, cpu = _compare(data, lambda server: server.stream(path, SERIES), ours, peer)
    emit(
        "gateway.series",
        megabytes=size >> 20,
        ratio=round(statistics.median(theirs) / statistics.median(mine), 3),
        ratio_of_best=round(min(theirs) / min(mine), 3),
        target=0.8,
        megabytes_per_s=round(size / statistics.median(mine) / 1e6),
        orthanc_megabytes_per_s=round(size / statistics.median(theirs) / 1e6),
        gateway_cpu_ms_per_100_mb=round(cpu / size * 1e11),
    )


def _bench_frames(data: Path, ours: Server, peer: Server, instances: list[str]) -> None:
    paths = [f"{instance}/frames/1" for instance in instances]

    def all_frames(server: Server) -> None:
        threads = [
            threading.Thread(target=server.frames, args=(paths[n::PARALLEL],))
            for n in range(PARALLEL)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    mine, theirs, cpu = _compare(data, all_frames, ours, peer)
    emit(
        "gateway.frames",
        parallel=PARALLEL,
        ratio=round(statistics.median(theirs) / statistics.median(mine), 3),
        ratio_of_best=round(min(theirs) / min(mine), 3),
        target=0.5,
        frames_per_s=round(len(paths) / statistics.median(mine)),
        orthanc_frames_per_s=round(len(paths) / statistics.median(theirs)),
        gateway_cpu_ms_per_frame=round(cpu * 1e3 / len(paths), 2),
    )


def _bench_searches(ours: Server, peer: Server, study: str, instance: str) -> None:
    series = instance.rsplit("/instances/", 1)[0]
    searches = {
        "studies": "/dicom-web/studies?limit=101&includefield=00081030",
        "series": f"/dicom-web/studies/{study}/series",
        "instances": f"{series}/instances",
    }
    for name, path in searches.items():
        mine, theirs = _p50_ms(ours, path, SEARCHES), _p50_ms(peer, path, SEARCHES)
        emit("gateway.search", level=name, p50_ms=round(mine, 1), orthanc_p50_ms=round(theirs, 1))


def _bench_stow(ours: Server, peer: Server, files: list[bytes]) -> None:
    head = b"--B\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"".join(head + file + b"\r\n" for file in files) + b"--B--\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'}
    times: dict[int, list[float]] = {ours.port: [], peer.port: []}
    for _ in range(3):
        for server in (peer, ours):
            with server.client() as client:
                # What is there already is not stored again: so it goes first.
                for one in peer.client().get("/studies").json():
                    with peer.client() as remover:
                        remover.delete(f"/studies/{one}")
                began = time.monotonic()
                client.post("/dicom-web/studies", content=body, headers=headers).raise_for_status()
                times[server.port].append(time.monotonic() - began)
    mine, theirs = statistics.median(times[ours.port]), statistics.median(times[peer.port])
    emit(
        "gateway.stow",
        images=len(files),
        ratio=round(theirs / mine, 3),
        images_per_s=round(len(files) / mine),
        orthanc_images_per_s=round(len(files) / theirs),
    )


def _bench_many(ours: Server, peer: Server) -> None:
    """A list of studies in an archive of a thousand, for somebody who may see all."""
    with tempfile.TemporaryDirectory() as home, peer.client() as client:
        noise = np.zeros((1, 8, 8), np.int16)
        geometry = Geometry(np.diag([3.0, 0.7, 0.7, 1.0])[[2, 1, 0, 3]], noise.shape, "2.25.1")
        volume = Volume(noise, geometry, "[hnsf'U]", "2.25.2", Acquisition("CT"))
        for number in range(MANY):
            made = write_ct_series(
                volume, Path(home), seed=f"many-{number}", patient_id=f"MANY-{number}"
            )
            client.post("/instances", content=made[0].read_bytes()).raise_for_status()
    path = "/dicom-web/studies?limit=101&offset=0&includefield=00081030"
    mine, theirs = _p50_ms(ours, path, 15), _p50_ms(peer, path, 15)
    emit(
        "gateway.search",
        level="studies",
        of=MANY,
        p50_ms=round(mine, 1),
        orthanc_p50_ms=round(theirs, 1),
    )


def _compare(
    data: Path, work: Callable[[Server], object], ours: Server, peer: Server
) -> tuple[list[float], list[float], float]:
    """Times of both by turns, and processor seconds of the gateway for one turn."""
    pid = next(p.pid for p in Supervisor(DataFolder(data)).processes() if p.name == "gateway")
    times: dict[int, list[float]] = {ours.port: [], peer.port: []}
    before = _cpu_s(pid)
    for _ in range(ROUNDS):
        for server in (peer, ours):
            began = time.monotonic()
            work(server)
            times[server.port].append(time.monotonic() - began)
    return times[ours.port], times[peer.port], (_cpu_s(pid) - before) / ROUNDS


def _p50_ms(server: Server, path: str, times: int) -> float:
    taken = []
    with server.client() as client:
        for _ in range(times):
            began = time.monotonic()
            client.get(path).raise_for_status()
            taken.append(time.monotonic() - began)
    return statistics.median(taken) * 1e3


def _uids(server: Server, study: str) -> list[str]:
    """Paths of the instances of a study, as the gateway itself tells them."""
    with server.client() as client:
        found = client.get(f"/dicom-web/studies/{study}/instances").json()
    return ["/dicom-web" + one["00081190"]["Value"][0].split("/dicom-web")[1] for one in found]


def _servers(data: Path, home: Path) -> tuple[Server, Server]:
    told = state(data)
    word = home / "password"
    word.write_text(PASSWORD)
    word.chmod(0o600)
    radloop(
        data,
        *("users", "add", "bench", "--role", "radiologist", "--all-patients"),
        *("--password-file", str(word)),
    )
    url = f"http://localhost:{told['gateway_port']}/api/token"
    token = httpx.post(url, json={"name": "bench", "password": PASSWORD}).json()["access_token"]
    secret = DataFolder(data).secret("orthanc_service").read_text().strip()
    basic = httpx.BasicAuth("radloop", secret)
    login = next(basic.auth_flow(httpx.Request("GET", "http://x"))).headers["Authorization"]
    return Server(told["gateway_port"], f"Bearer {token}"), Server(told["http_port"], login)


def _series(home: Path) -> list[bytes]:
    noise = np.random.default_rng(1).integers(-1000, 1000, (IMAGES, 512, 512), np.int16)
    geometry = Geometry(np.diag([3.0, 0.7, 0.7, 1.0])[[2, 1, 0, 3]], noise.shape, "2.25.1")
    volume = Volume(noise, geometry, "[hnsf'U]", "2.25.2", Acquisition("CT"))
    return [one.read_bytes() for one in write_ct_series(volume, home / "ct", seed="gateway")]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
