"""Models are fetched whole and right, or not at all."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ai_nodes import model_sources
from ai_nodes.manifest import Manifest, Model
from ai_nodes.model_store import ModelStore
from dicom_services.errors import (
    AccessError,
    ConfigError,
    CorruptError,
    InputError,
    MissingError,
    RadloopError,
    UnavailableError,
)
from tests import checkpoints
from tests.chaos import disks
from tests.model_server import Served, certificate, serving

CONTENT = bytes(range(256)) * 4096
"""A megabyte."""


def file_entry(content: bytes, *sources: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "path": "model.bin",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "source": list(sources),
        **more,
    }


def a_model(*files: dict[str, Any], **more: Any) -> Model:
    port = {"name": "x", "dtype": "float32", "shape": [0], "meaning": "Anything."}
    told = {
        "name": "net", "version": "1.0.0", "title": "Net", "task": "segmentation",
        "runtime": "ctranslate2", "licence": "MIT", "memory_mb": 1, "intended_use": "Tests.",
        "trained_on": "Nothing.", "input": [port], "output": [port], "file": list(files),
    }  # fmt: skip
    return Model.model_validate(told | more)


def a_store(folder: Path, model: Model, **more: Any) -> ModelStore:
    return ModelStore(Manifest({model.name: model}, folder), folder / "data" / "models", **more)


def from_path(folder: Path, content: bytes = CONTENT, **more: Any) -> tuple[ModelStore, Model]:
    (folder / "weights").write_bytes(content)
    model = a_model(file_entry(content, {"kind": "path", "path": "weights"}, **more))
    return a_store(folder, model), model


def left_behind(store: ModelStore) -> list[str]:
    """Everything of a model but its lock."""
    found = store.home.rglob("*") if store.home.exists() else []
    return sorted(one.name for one in found if not one.name.endswith(".lock"))


# The way it should go.


def test_a_fetched_model_is_for_its_owner_alone_and_is_fetched_once(tmp_path: Path) -> None:
    store, model = from_path(tmp_path)
    assert store.state(model) == "absent"
    assert store.fetch(model)
    assert not store.fetch(model)
    assert (store.folder(model) / "model.bin").read_bytes() == CONTENT
    assert (store.state(model), store.digest(model)) == ("fetched", model.file[0].sha256)
    modes = {stat.S_IMODE(one.stat().st_mode) for one in store.home.rglob("*") if not one.is_dir()}
    assert modes == {0o600}
    folders = [store.home, *(one for one in store.home.rglob("*") if one.is_dir())]
    assert {stat.S_IMODE(one.stat().st_mode) for one in folders} == {0o700}
    assert left_behind(store) == ["1.0.0", "model.bin", "net", "receipt.json"]


def test_parts_are_put_together_in_their_order(tmp_path: Path) -> None:
    for name, part in (("a", CONTENT[:1000]), ("b", CONTENT[1000:])):
        (tmp_path / name).write_bytes(part)
    sources = [{"kind": "path", "path": "a"}, {"kind": "path", "path": "b"}]
    model = a_model(file_entry(CONTENT, *sources))
    a_store(tmp_path, model).fetch(model)
    backwards = a_model(file_entry(CONTENT, *sources[::-1]), name="other")
    with pytest.raises(CorruptError, match="weights_hash"):
        a_store(tmp_path, backwards).fetch(backwards)


def test_a_checkpoint_is_never_kept_only_what_became_of_it(tmp_path: Path) -> None:
    weights = checkpoints.state_dict(tmp_path / "weights")
    content = (tmp_path / "weights").read_bytes()
    store, model = from_path(tmp_path, content, path="net.safetensors", convert="torch")
    store.fetch(model)
    assert left_behind(store) == ["1.0.0", "net", "net.safetensors", "receipt.json"]
    found = load_file(store.folder(model) / "net.safetensors")
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    receipt = json.loads((store.folder(model) / "receipt.json").read_text())
    assert receipt["files"][0]["source_sha256"] == hashlib.sha256(content).hexdigest()


def test_a_folder_of_nnunet_is_fetched_with_its_plans(tmp_path: Path) -> None:
    home = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (home / "fold_0").mkdir(parents=True)
    checkpoints.nnunet_checkpoint(home / "fold_0" / "checkpoint_final.pth")
    (home / "plans.json").write_text(json.dumps({"plans_name": "nnUNetPlans"}))
    (home / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lesion": 1}}))
    files = []
    for path, live, convert in (
        ("fold_0/checkpoint_final.pth", "fold_0/checkpoint_final.safetensors", "nnunet"),
        ("plans.json", "plans.json", ""),
        ("dataset.json", "dataset.json", ""),
    ):
        source = {"kind": "path", "path": str(home / path)}
        files.append(file_entry((home / path).read_bytes(), source, path=live, convert=convert))
    model = a_model(*files, runtime="torch", architecture="nnunet")
    store = a_store(tmp_path, model)
    store.fetch(model)
    store.verify(model)
    live = store.folder(model)
    assert json.loads((live / "plans.json").read_text()) == {"plans_name": "nnUNetPlans"}
    assert sorted(load_file(live / "fold_0" / "checkpoint_final.safetensors"))[0] == "0.bias"
    assert not list(live.rglob("*.pth"))


# What is not as the manifest says.


@pytest.mark.parametrize(
    ("content", "reason"),
    [(CONTENT[:-1], "shorter"), (CONTENT + b"x", "longer"), (b"y" + CONTENT[1:], "other")],
)
def test_other_bytes_than_declared_leave_nothing(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    store, model = from_path(tmp_path)
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(CorruptError) as caught:
        store.fetch(model)
    assert (caught.value.code, caught.value.facts["reason"]) == ("weights_hash", reason)
    assert left_behind(store) == []


def test_a_conversion_that_gives_other_weights_than_pinned_leaves_nothing(tmp_path: Path) -> None:
    checkpoints.state_dict(tmp_path / "weights")
    content = (tmp_path / "weights").read_bytes()
    store, model = from_path(
        tmp_path, content, path="net.safetensors", convert="torch", live_sha256="0" * 64
    )
    with pytest.raises(CorruptError, match="weights_hash"):
        store.fetch(model)
    assert left_behind(store) == []


def test_a_program_in_place_of_weights_is_refused_though_its_hash_is_declared(
    tmp_path: Path,
) -> None:
    checkpoints.bare_pickle(tmp_path / "weights", tmp_path / "ran")
    content = (tmp_path / "weights").read_bytes()
    for more in ({"convert": "torch"}, {}):
        store, model = from_path(tmp_path, content, path="net.safetensors", **more)
        with pytest.raises(InputError, match=r"weights_(pickle|format)"):
            store.fetch(model)
        assert left_behind(store) == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "link", "receipt"])
def test_what_changed_on_the_disk_is_found_and_fetched_anew(tmp_path: Path, damage: str) -> None:
    store, model = from_path(tmp_path)
    store.fetch(model)
    live = store.folder(model) / "model.bin"
    if damage == "flipped":
        with live.open("r+b") as file:
            file.seek(5000)
            file.write(b"\xff")
    elif damage == "cut":
        os.truncate(live, 100)
    elif damage == "receipt":
        (store.folder(model) / "receipt.json").write_text('{"files": [{"path": "model.bin"}]}')
    else:
        live.unlink()
        if damage == "link":
            live.symlink_to(tmp_path / "weights")
    with pytest.raises(CorruptError, match="weights_hash"):
        store.verify(model)
    assert store.fetch(model)
    store.verify(model)


def test_a_receipt_cannot_vouch_for_what_the_manifest_pins(tmp_path: Path) -> None:
    store, model = from_path(tmp_path)
    store.fetch(model)
    (store.folder(model) / "model.bin").write_bytes(b"evil")
    receipt = store.folder(model) / "receipt.json"
    told = json.loads(receipt.read_text())
    told["files"][0]["sha256"] = hashlib.sha256(b"evil").hexdigest()
    receipt.write_text(json.dumps(told))
    with pytest.raises(CorruptError, match="weights_hash"):
        store.verify(model)


def test_what_nobody_publishes_is_told_so(tmp_path: Path) -> None:
    model = a_model(published=False)
    with pytest.raises(MissingError, match="weights_unpublished"):
        a_store(tmp_path, model).fetch(model)


# Two at once, killed, no room.


def _fetch_in_process(folder: Path, answers: Any) -> None:
    store, model = from_path_again(folder)
    answers.put(store.fetch(model))


def from_path_again(folder: Path) -> tuple[ModelStore, Model]:
    model = a_model(file_entry(CONTENT, {"kind": "path", "path": "weights"}))
    return a_store(folder, model), model


def test_of_eight_fetches_at_once_one_fetches_and_all_find_it_right(tmp_path: Path) -> None:
    from_path(tmp_path)
    forks = multiprocessing.get_context("fork")
    answers = forks.SimpleQueue()
    many = [forks.Process(target=_fetch_in_process, args=(tmp_path, answers)) for _ in range(8)]
    for one in many:
        one.start()
    told = sorted(answers.get() for _ in many)
    for one in many:
        one.join()
    assert told == [False] * 7 + [True]
    store, model = from_path_again(tmp_path)
    store.verify(model)


def test_a_killed_fetch_leaves_nothing_that_counts_and_the_next_one_cleans_up(
    tmp_path: Path,
) -> None:
    store, model = from_path(tmp_path)
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from tests.unit.ai_nodes.test_model_store import from_path_again\n"
        "store, model = from_path_again(Path(sys.argv[1]))\n"
        "store.fetch(model, lambda *_: os.kill(os.getpid(), 9))\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(root)], check=False, timeout=60
    )
    assert done.returncode == -9
    assert store.state(model) == "absent"
    assert left_behind(store) != []
    assert store.fetch(model)
    assert left_behind(store) == ["1.0.0", "model.bin", "net", "receipt.json"]


def test_a_disk_without_room_is_told_before_and_while(tmp_path: Path) -> None:
    disk = disks.mount(tmp_path / "data", megabytes=4)
    if disk is None:
        pytest.skip("this user may not mount a disk")
    try:
        store, model = from_path(tmp_path)
        assert store.fetch(model)
        disk.fill()
        other = model.model_copy(update={"name": "other"})
        with pytest.raises(UnavailableError, match="disk_full"):
            store.fetch(other)
        disk.free()
        # As if something else took the room meanwhile.
        with pytest.raises(UnavailableError, match="disk_full"):
            store.fetch(other, lambda *_: disk.fill())
        disk.free()
        assert not any("other" in one and "lock" not in one for one in left_behind(store))
        store.verify(model)
    finally:
        disk.unmount()


# From addresses and hubs.


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def served(pem: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(pem) as one:
        one.files["/weights"] = CONTENT
        yield one


def fetched(folder: Path, source: dict[str, str], **more: Any) -> ModelStore:
    model = a_model(file_entry(CONTENT, source))
    store = a_store(folder, model, **more)
    try:
        store.fetch(model)
    except RadloopError:
        assert left_behind(store) == []
        raise
    return store


def at(served: Served, path: str) -> dict[str, str]:
    return {"kind": "url", "url": f"{served.url}{path}"}


def test_an_address_and_where_it_redirects_to(tmp_path: Path, served: Served) -> None:
    served.redirects = {"/a": "/b", "/b": f"{served.url}/weights"}
    fetched(tmp_path, at(served, "/a"))
    assert [path for path, _ in served.asked] == ["/a", "/b", "/weights"]


def test_redirects_in_circles_and_away_from_tls_are_refused(tmp_path: Path, served: Served) -> None:
    served.redirects = {"/round": "/round", "/plain": "http://127.0.0.1:1/weights"}
    for path in ("/round", "/plain"):
        with pytest.raises(ConfigError, match="source_redirect"):
            fetched(tmp_path, at(served, path))
    assert len(served.asked) == 7


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (404, MissingError, "source_missing"),
        (403, AccessError, "source_forbidden"),
        (500, UnavailableError, "source_unavailable"),
        (206, UnavailableError, "source_unavailable"),
    ],
)
def test_an_answer_without_the_file_is_told_by_its_code(
    tmp_path: Path, served: Served, status: int, error: type[RadloopError], code: str
) -> None:
    served.status["/weights"] = status
    with pytest.raises(error, match=code):
        fetched(tmp_path, at(served, "/weights"))


def test_an_endless_answer_ends_at_the_declared_size(tmp_path: Path, served: Served) -> None:
    served.endless.add("/weights")
    with pytest.raises(CorruptError, match="weights_hash"):
        fetched(tmp_path, at(served, "/weights"))


def test_an_answer_that_breaks_off_leaves_nothing(tmp_path: Path, served: Served) -> None:
    served.broken.add("/weights")
    with pytest.raises(UnavailableError, match="source_unavailable"):
        fetched(tmp_path, at(served, "/weights"))


def test_an_answer_that_would_have_to_be_unpacked_is_refused(
    tmp_path: Path, served: Served
) -> None:
    served.packed.add("/weights")
    with pytest.raises(ConfigError, match="source_encoding"):
        fetched(tmp_path, at(served, "/weights"))


def test_a_server_nobody_vouches_for_is_not_asked(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UnavailableError, match="source_unavailable"):
        fetched(tmp_path, at(served, "/weights"))
    assert served.asked == []


def test_a_sender_that_is_too_slow_is_left(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_sources, "_SILENCE_S", -100.0)
    monkeypatch.setattr(model_sources.httpx, "Timeout", lambda *_, **__: 5.0)
    with pytest.raises(UnavailableError) as caught:
        fetched(tmp_path, at(served, "/weights"))
    assert caught.value.facts["reason"] == "slow"


@pytest.fixture
def without_hub_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain way, also where the hub's library is installed."""
    found = model_sources.importlib.util.find_spec
    monkeypatch.setattr(
        model_sources.importlib.util,
        "find_spec",
        lambda name: None if name == "huggingface_hub" else found(name),
    )


HUB = {"kind": "hub", "hub": "org/net", "revision": "abc123", "member": "a/model.bin"}


@pytest.mark.usefixtures("without_hub_library")
def test_a_hub_is_asked_for_a_revision_and_its_store_gets_no_token(
    tmp_path: Path, served: Served, pem: Path
) -> None:
    with serving(pem) as store:
        store.files["/blob"] = CONTENT
        served.token = "hf_secret"
        served.redirects = {"/org/net/resolve/abc123/a/model.bin": f"{store.url}/blob"}
        fetched(tmp_path, HUB, hub=served.url, hub_token="hf_secret")
        assert served.asked == [("/org/net/resolve/abc123/a/model.bin", "Bearer hf_secret")]
        assert store.asked == [("/blob", "")]


@pytest.mark.usefixtures("without_hub_library")
def test_a_gated_model_says_that_its_owner_wants_to_know_who_asks(
    tmp_path: Path, served: Served
) -> None:
    served.token = "hf_secret"
    served.files["/org/net/resolve/abc123/a/model.bin"] = CONTENT
    with pytest.raises(AccessError, match="source_forbidden"):
        fetched(tmp_path, HUB, hub=served.url)


# From packages, by the real pip.


def a_wheel(folder: Path, member: bytes) -> None:
    """A wheel that would leave `ran` if anything of it were ever imported or installed."""
    with zipfile.ZipFile(folder / "netweights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("netweights/__init__.py", f"open({str(folder / 'ran')!r}, 'w')\n")
        wheel.writestr("netweights/model.bin", member)
        wheel.writestr(
            "netweights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: netweights\nVersion: 1.0\nRequires-Dist: torchvision\n",
        )
        wheel.writestr(
            "netweights-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("netweights-1.0.dist-info/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


PACKAGE = {
    "kind": "package", "package": "netweights", "version": "1.0", "member": "netweights/model.bin",
}  # fmt: skip


def test_a_wheel_gives_its_member_and_nothing_of_it_is_installed_or_run(
    tmp_path: Path, index: Path
) -> None:
    a_wheel(index, CONTENT)
    before = set(sys.modules)
    store = fetched(tmp_path, PACKAGE)
    assert (store.home / "net" / "1.0.0" / "model.bin").read_bytes() == CONTENT
    assert not (index / "ran").exists()
    assert not {name for name in set(sys.modules) - before if name.startswith("netweights")}


def test_a_package_that_would_have_to_be_built_is_not_taken(tmp_path: Path, index: Path) -> None:
    import tarfile

    (tmp_path / "setup.py").write_text(f"open({str(index / 'ran')!r}, 'w')\n")
    with tarfile.open(index / "netweights-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "setup.py", "netweights-1.0/setup.py")
    with pytest.raises(UnavailableError, match="source_unavailable"):
        fetched(tmp_path, PACKAGE)
    assert not (index / "ran").exists()


def test_a_wheel_without_the_member_or_with_a_swollen_one_leaves_nothing(
    tmp_path: Path, index: Path
) -> None:
    a_wheel(index, CONTENT)
    with pytest.raises(MissingError, match="source_missing"):
        fetched(tmp_path, PACKAGE | {"member": "netweights/other.bin"})
    a_wheel(index, bytes(64 << 20))
    with pytest.raises(CorruptError, match="weights_hash"):
        fetched(tmp_path, PACKAGE)
    (index / "netweights-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 not a wheel")
    with pytest.raises(RadloopError, match=r"source_(unavailable|archive)"):
        fetched(tmp_path, PACKAGE)


def test_safetensors_from_anywhere_are_looked_at(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "good")
    store, model = from_path(tmp_path, (tmp_path / "good").read_bytes(), path="a.safetensors")
    assert store.fetch(model)
