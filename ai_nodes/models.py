"""Models by name, for pipelines: verified once in a process, opened, kept open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ai_nodes.gpu_lease import Lease, cards_of_machine, take_lease
from ai_nodes.manifest import Model, read_manifest
from ai_nodes.model_store import ModelStore
from ai_nodes.node import Node
from ai_nodes.ops.device import (
    CPU,
    Budget,
    Device,
    choose_device,
    measure_budget,
    prefer_device,
)
from ai_nodes.ops.runtimes import Network, open_network
from dicom_services.data_folder import data_folder
from dicom_services.domain.card import ModelCard
from dicom_services.errors import ConfigError, CorruptError, InputError, MissingError, RadloopError
from dicom_services.log import event
from dicom_services.settings import ModelSettings, overlay_path, read_secret, read_settings

if TYPE_CHECKING:
    from torch import nn

Stamp = tuple[str, int, int, int, int]
"""Path, inode, size, and times of the last write and the last change of anything."""


@dataclass(slots=True)
class Models:
    """The models of one process.

    Parameters
    ----------
    store : ModelStore
    settings : ModelSettings
    leases : Path
        Folder of the locks that share a card; the same for all processes of this machine.
    """

    store: ModelStore
    settings: ModelSettings
    leases: Path
    _checked: dict[Stamp, str] = field(default_factory=dict)
    _open: dict[str, Network] = field(default_factory=dict)
    _leased: dict[str, Lease] = field(default_factory=dict)

    def load(self, name: str) -> Network:
        """The network of a model, on a card where one is and has room, else on the processor.

        Raises
        ------
        InputError
            `weights_missing`, `weights_hash`, or what the runtime says of the file
            (`model_external_data`, ...): the analysis is refused and its report says why.
        ConfigError
            `model_runtime` for a model that is no network of this engine: ask for its `folder`.
        MissingError
            `model_unknown`.
        """
        model = self.store.manifest.named(name)
        if model.runtime not in ("onnx", "torch"):
            raise ConfigError("model_runtime", model=name)
        if name in self._open:
            kept = self._open[name]
            if name not in self._leased:
                # Opened before the fork, perhaps; what is free is another by now.
                kept.budget = measure_budget(kept.device)
            return kept
        device = choose_device(self.settings.device)
        self._require_right(model)
        network = self._opened(model, device)
        self._open[name] = network
        return network

    def folder(self, name: str) -> Path:
        """The folder of a model's files, every one of them checked; for runtimes of their own.

        Raises
        ------
        InputError
            `weights_missing`, `weights_hash`.
        """
        model = self.store.manifest.named(name)
        self._require_right(model)
        return self.store.folder(model)

    def card(self, name: str) -> ModelCard:
        """What results say of the model.

        Raises
        ------
        InputError
            `weights_missing`, `weights_hash`.
        """
        model = self.store.manifest.named(name)
        try:
            digest = self.store.digest(model)
        except (MissingError, CorruptError) as error:
            raise InputError(error.code, model=name) from None
        return ModelCard(
            name=model.title,
            version=model.version,
            sha256=digest,
            family="model",
            intended_use=model.intended_use,
            trained_on=model.trained_on,
            metrics=dict(model.metrics),
        )

    def warm(self, names: Iterable[str]) -> None:
        """Do before the fork what every job would do again: hashing, imports, reading weights.

        Networks of torch are opened on the processor, where the weights are then one copy for all
        jobs. ONNX Runtime's sessions have threads, and CUDA's contexts belong to one process:
        neither outlives a fork, so there only the hashes are kept, and jobs open for themselves.
        """
        for name in names:
            try:
                model = self.store.manifest.named(name)
                self._require_right(model)
                if model.runtime == "torch" and choose_device(self.settings.device) == CPU:
                    self.load(name)
                elif model.runtime == "onnx":
                    import onnxruntime  # noqa: F401 - half a second that no job waits for
            except (RadloopError, ImportError) as error:
                # Jobs that need it are refused with the same code; others must not wait for it.
                code = error.code if isinstance(error, RadloopError) else "runtime_absent"
                event("model.not_warm", level=logging.WARNING, code=code)

    def close(self) -> None:
        """Let networks and leases go."""
        for network in self._open.values():
            network.close()
        self._open.clear()
        for lease in self._leased.values():
            lease.release()
        self._leased.clear()

    def _require_right(self, model: Model) -> None:
        """Every file has its hash; a file that has not changed since is not read again."""
        try:
            for at, (path, wanted) in enumerate(self.store.wanted(model)):
                stamp = _stamp(path)
                if self._checked.get(stamp) != wanted:
                    self.store.verify_file(model, at)
                    self._checked[stamp] = wanted
        except (MissingError, CorruptError) as error:
            raise InputError(error.code, model=model.name) from None

    def _opened(self, model: Model, device: Device) -> Network:
        budget = None
        if device.kind == "cuda":
            device, budget = self._on_card(model, device)
        path = self.store.folder(model) / model.entry
        try:
            if model.runtime == "onnx":
                return open_network(path, device=device, budget=budget)
            return open_network(_builder(model), weights=path, device=device, budget=budget)
        except CorruptError as error:
            raise InputError(error.code, model=model.name) from None

    def _on_card(self, model: Model, device: Device) -> tuple[Device, Budget | None]:
        """A card with a lease that lasts as long as the process, or the processor."""
        device, lease = self._lease(model.memory_mb << 20, device)
        if lease is None:
            return CPU, None
        self._leased[model.name] = lease
        return device, Budget(lease.bytes)

    def _lease(self, wanted_bytes: int, device: Device) -> tuple[Device, Lease | None]:
        cards = cards_of_machine(self.settings.card_share)
        order = list(cards)
        if self.settings.device not in ("auto", "cuda"):
            cards = {card: cards[card] for card in order[device.index : device.index + 1]}
        lease = take_lease(wanted_bytes, cards, self.leases, wait_s=self.settings.lease_wait_s)
        if lease is None:
            event("model.on_cpu", level=logging.WARNING, code="card_busy")
            return CPU, None
        return Device("cuda", order.index(lease.card)), lease

    @contextmanager
    def borrowed_card(self, wanted_bytes: int) -> Iterator[Device]:
        """A card with so much memory for a computation without a network, or the processor.

        The memory is leased until the block ends.
        """
        device = choose_device(self.settings.device)
        lease = None
        if device.kind == "cuda":
            device, lease = self._lease(wanted_bytes, device)
        try:
            yield device
        finally:
            if lease is not None:
                lease.release()


_process: Models | None = None


def use(models: Models) -> None:
    """Take `models` for this process; done once, where it starts."""
    global _process
    prefer_device(models.settings.device)
    _process = models


def of_process() -> Models:
    """The models of this process: as `use` was told, else those of the settings and data folder."""
    global _process
    if _process is None:
        _process = open_models(data_folder().home)
    return _process


def open_models(data: Path) -> Models:
    """The models of a data folder, by the settings of this call."""
    settings = read_settings(overlay_path()).models
    token = read_secret(Path(settings.hub_token)) if settings.hub_token else ""
    store = ModelStore(read_manifest(settings.file), data / "models", settings.hub, token)
    return Models(store, settings, data / "models" / ".leases")


def of_node(node: Node) -> Models:
    """The models of a worker, as its configuration says."""
    store = ModelStore(read_manifest(node.models.file), node.models_home)
    return Models(store, node.models, node.models_home / ".leases")


def load(name: str) -> Network:
    """As `Models.load`, of this process."""
    return of_process().load(name)


def folder(name: str) -> Path:
    """As `Models.folder`, of this process."""
    return of_process().folder(name)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.lstat()
    except OSError:
        return (str(path), 0, 0, 0, 0)
    return (str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _hd_bet() -> nn.Module:
    from ai_nodes.hd_bet_network import HdBetNetwork

    return HdBetNetwork()


ARCHITECTURES: Final[Mapping[str, Callable[[], Any]]] = {"hd_bet": _hd_bet}
"""What safetensors of a manifest entry may be the weights of."""


def _builder(model: Model) -> Callable[[], Any]:
    if model.architecture not in ARCHITECTURES:
        raise ConfigError("model_architecture", model=model.name)
    return ARCHITECTURES[model.architecture]
