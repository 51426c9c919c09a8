"""The manifest: what ships is whole, and whatever is unknown or wrong is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ai_nodes.manifest import read_manifest
from ai_nodes.models import ARCHITECTURES
from dicom_services.errors import ConfigError, MissingError
from dicom_services.settings import config_folder

SHIPPED = config_folder() / "models.toml"
ENTRY = """
version = 1
[[model]]
name = "net"
version = "1.0.0"
title = "Net"
task = "segmentation"
runtime = "onnx"
licence = "MIT"
memory_mb = 10
intended_use = "Tests."
trained_on = "Nothing."
[[model.input]]
name = "x"
dtype = "float32"
shape = [1, 1, 0, 0, 0]
meaning = "An image."
[[model.output]]
name = "y"
dtype = "float32"
shape = [1, 2, 0, 0, 0]
meaning = "Logits."
code = [{ value = "12738006", scheme = "SCT", meaning = "Brain" }]
[[model.file]]
path = "net.onnx"
bytes = 10
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[[model.file.source]]
kind = "path"
path = "/weights/net.onnx"
"""


def written(folder: Path, text: str) -> Path:
    (folder / "models.toml").write_text(text)
    return folder / "models.toml"


def refused(folder: Path, text: str) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        read_manifest(written(folder, text))
    return caught.value.code, str(caught.value.facts.get("key", ""))


def test_every_shipped_model_tells_what_a_reader_must_know() -> None:
    models = read_manifest(SHIPPED).models
    assert {"hd-bet", "lite-medsam", "whisper-base", "all-minilm-l6-v2"} <= models.keys()
    for model in models.values():
        assert "research use, not a medical device" in model.intended_use
        assert model.licence
        assert model.reference
        assert not model.architecture or model.architecture in ARCHITECTURES
        assert not model.metrics or model.metrics_on


def test_every_shipped_conversion_is_pinned_on_both_sides() -> None:
    for model in read_manifest(SHIPPED).models.values():
        for file in model.file:
            assert bool(file.live_sha256) == bool(file.convert)


def test_the_manifest_names_no_mirror() -> None:
    text = SHIPPED.read_text("utf-8")
    assert re.search(r"https?://(?!huggingface\.co|github\.com)", text) is None
    assert tomllib.loads(text)["version"] == 1


def test_a_good_entry_is_read(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, ENTRY))
    model = manifest.named("net")
    assert (model.entry, model.bytes, manifest.folder) == ("net.onnx", 10, tmp_path)
    assert model.output[0].code[0].meaning == "Brain"
    with pytest.raises(MissingError, match="model_unknown"):
        manifest.named("other")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("version = 1\n", "version = 2\n", "version"),
        ("version = 1\n", "version = 1\nmodles = 1\n", "modles"),
        ('licence = "MIT"', 'licence = "MIT"\nlicense = "MIT"', "model.0.license"),
        ('licence = "MIT"\n', "", "model.0.licence"),
        ('version = "1.0.0"', 'version = "1.0"', "model.0.version"),
        ('version = "1.0.0"', 'version = "01.0.0"', "model.0.version"),
        ('name = "net"', 'name = "../net"', "model.0.name"),
        ('task = "segmentation"', 'task = "magic"', "model.0.task"),
        ('runtime = "onnx"', 'runtime = "torchscript"', "model.0.runtime"),
        ("memory_mb = 10", "memory_mb = 0", "model.0.memory_mb"),
        ('trained_on = "Nothing."', 'trained_on = "nothing"', "model.0.trained_on"),
        ("bytes = 10", "bytes = -1", "model.0.file.0.bytes"),
        ("bytes = 10", 'bytes = 10\nconvert = "exec"', "model.0.file.0.convert"),
        ('sha256 = "0', 'sha256 = "z', "model.0.file.0.sha256"),
        ('path = "net.onnx"', 'path = "../net.onnx"', "model.0.file.0.path"),
        ('path = "net.onnx"', 'path = "/net.onnx"', "model.0.file.0.path"),
        ('path = "net.onnx"', 'path = "a/../../net.onnx"', "model.0.file.0.path"),
        ('path = "net.onnx"', 'path = ".net.onnx"', "model.0.file.0.path"),
        ('path = "net.onnx"', 'path = "net.pth"', "model.0.file.0"),
        ('path = "net.onnx"', 'path = "receipt.json"', "model.0"),
        ('path = "net.onnx"', 'path = "net.bin"', "model.0"),
        ('kind = "path"', 'kind = "ftp"', "model.0.file.0.source.0"),
        ('kind = "path"', 'kind = "path"\nsha1 = ""', "model.0.file.0.source.0.path.sha1"),
        (
            'kind = "path"\npath = "/weights/net.onnx"',
            'kind = "url"\nurl = "http://example.org/net.onnx"',
            "model.0.file.0.source.0.url.url",
        ),
        (
            'kind = "path"\npath = "/weights/net.onnx"',
            'kind = "package"\npackage = "--index-url=x"\nversion = "1"\nmember = "a"',
            "model.0.file.0.source.0.package.package",
        ),
        (
            'kind = "path"\npath = "/weights/net.onnx"',
            'kind = "hub"\nhub = "../net"\nrevision = "a"\nmember = "a"',
            "model.0.file.0.source.0.hub.hub",
        ),
        ('licence = "MIT"', 'licence = "MIT"\npublished = false', "model.0"),
        ('licence = "MIT"', 'licence = "MIT"\nopens = "other.onnx"', "model.0"),
    ],
)
def test_what_is_unknown_or_wrong_is_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in ENTRY
    assert refused(tmp_path, ENTRY.replace(old, new, 1)) == ("models", key)


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    second = ENTRY.replace("version = 1\n", "", 1)
    assert refused(tmp_path, ENTRY + second) == ("models", "net")


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"[[[", "models_not_toml"), (b"\xff\xfe", "models_not_toml"), (b"#" * (5 << 20), "models")],
    ids=["no TOML", "no UTF-8", "endless"],
)
def test_what_is_no_manifest_is_told_so(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "models.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=code):
        read_manifest(tmp_path / "models.toml")


def test_a_manifest_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="models_missing"):
        read_manifest(tmp_path / "models.toml")


def test_a_wrong_value_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_manifest(written(tmp_path, ENTRY.replace("memory_mb = 10", 'memory_mb = "hunter2"')))
    assert "hunter2" not in str(caught.value)
