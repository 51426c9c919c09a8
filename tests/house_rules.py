"""Rules of this house that no linter knows, checked on the syntax tree; `make check` runs them.

    python -m tests.house_rules [FILE or FOLDER ...]

Each rule is one function that yields what it does not like, and `test_house_rules.py` shows each
a bad snippet. Where a rule has to be broken, the line says `# house: RULE - why`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("orthanc_plugins", "dicom_services", "ai_nodes", "config", ".ci")
SCREENS = {"tables.py", "routing.py"}
"""Besides cli*.py: what a command prints, and the plugin's own command for checking rules."""
OUR_ERRORS = {
    "AccessError",
    "ConfigError",
    "CorruptError",
    "InputError",
    "MissingError",
    "RadloopError",
    "RuleError",
    "UnavailableError",
}
ALLOWED = re.compile(r"#\s*house:\s*([a-z-]+) - \S")

Found = Iterator[tuple[ast.AST, str]]


@dataclass
class Source:
    """One file: its tree, and the full name of everything it imports."""

    path: str
    text: str
    tree: ast.Module = field(init=False)
    names: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for one in node.names:
                    top = one.name if one.asname else one.name.split(".")[0]
                    self.names[one.asname or top] = top
            elif isinstance(node, ast.ImportFrom) and node.module:
                for one in node.names:
                    self.names[one.asname or one.name] = f"{node.module}.{one.name}"

    def full_name(self, node: ast.AST) -> str:
        """`np.load` as "numpy.load"; a call's result or an item is a question mark."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.full_name(node.value)}.{node.attr}"
        return "?"

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call with the full name of what is called."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, self.full_name(node.func)

    def imports(self) -> Iterator[tuple[ast.AST, str]]:
        """Every imported module, wherever the import stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node, one.name) for one in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((node, f"{node.module}.{one.name}") for one in node.names)


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The value given for a keyword; a `**mapping` may hold anything, so it counts for none."""
    return next((one.value for one in call.keywords if one.arg == name), None)


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


# --- what data may do --------------------------------------------------------------------------


def code_from_data(source: Source) -> Found:
    """Nothing that turns data into code or objects: JSON, TOML and DICOM are enough."""
    loaders = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy"}
    for node, name in source.imports():
        if name.split(".")[0] in loaders or name == "code.interact":
            yield node, f"{name} makes objects or code of bytes"
    for call, name in source.calls():
        if name in {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"}:
            yield call, f"{name}() runs text"
        if name in {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "jsonpickle.decode"}:
            yield call, f"{name}() makes objects"
        if name in {"numpy.load", "numpy.lib.format.read_array"} and is_true(
            keyword(call, "allow_pickle")
        ):
            yield call, "allow_pickle"


def torch_load(source: Source) -> Found:
    """A model file is weights, never a program."""
    for call, name in source.calls():
        if name in {"torch.load", "torch.serialization.load"} and not is_true(
            keyword(call, "weights_only")
        ):
            yield call, "torch.load() without weights_only=True"


def queue_serializer(source: Source) -> Found:
    """RQ's own serializer is pickle: every queue, job and worker names ours."""
    makers = {"rq.Queue", "rq.Worker", "rq.SimpleWorker", "rq.queue.Queue", "rq.worker.Worker"}
    fetchers = {"fetch", "fetch_many", "create"}
    for call, name in source.calls():
        made = name in makers or re.fullmatch(r"\w+Worker", last(name))
        owner, _, method = name.rpartition(".")
        fetched = method in fetchers and owner in {"rq.job.Job", "rq.Job"}
        if (made or fetched) and keyword(call, "serializer") is None:
            yield call, f"{last(name)} without serializer="


def unpacking(source: Source) -> Found:
    """An archive's names are never trusted with a place on the disk."""
    for call, name in source.calls():
        if last(name) in {"extractall", "unpack_archive"} or (
            last(name) == "extract" and isinstance(call.func, ast.Attribute)
        ):
            yield call, f"{last(name)}() writes where the archive says"


def xml_parser(source: Source) -> Found:
    """Python's XML parsers expand entities."""
    for node, name in source.imports():
        if name.startswith(("xml.", "lxml")):
            yield node, f"{name} expands entities"


def unchecked_dataset(source: Source) -> Found:
    """Nested damage makes pydicom's walk(), remove_private_tags() and str() explode."""
    for call, name in source.calls():
        owner = name.rpartition(".")[0]
        if last(name) == "remove_private_tags":
            yield call, "remove_private_tags() of unchecked data"
        if last(name) == "walk" and owner not in {"", "os", "ast"}:
            yield call, "walk() of unchecked data"
        if last(name) in {"dcmread", "read_file"} and is_true(keyword(call, "force")):
            yield call, "force=True reads anything as DICOM"
    for node, inside in shown(source.tree):
        if isinstance(inside, ast.Name) and inside.id in {"ds", "dataset"}:
            yield node, "text of a whole dataset"


# --- what leaves the process -------------------------------------------------------------------


def shown(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.expr]]:
    """Every value that is made a text: by str(), repr(), an f-string, % or format()."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue):
            yield node, node.value
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            if isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
                right = node.right
                for one in right.elts if isinstance(right, ast.Tuple) else [right]:
                    yield node, one
        elif isinstance(node, ast.Call):
            by_name = isinstance(node.func, ast.Name) and node.func.id in {"str", "repr", "format"}
            by_method = isinstance(node.func, ast.Attribute) and node.func.attr == "format"
            for one in node.args if by_name or by_method else ():
                yield node, one


def error_text(source: Source) -> Found:
    """The text of a foreign exception may repeat what a file said."""
    for handler in ast.walk(source.tree):
        if not isinstance(handler, ast.ExceptHandler):
            continue
        caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if {last(source.full_name(one)) for one in caught if one} <= OUR_ERRORS and handler.type:
            continue
        for node, value in shown(handler):
            if isinstance(value, ast.Name) and value.id == handler.name:
                yield node, "text of an exception that is not ours"
        asked = {
            inner
            for node in ast.walk(handler)
            if isinstance(node, ast.Compare | ast.BoolOp)
            for inner in ast.walk(node)
        }
        for node in ast.walk(handler):
            if (
                node not in asked
                and isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == handler.name
                and node.attr in {"args", "strerror", "msg", "message", "filename", "stderr"}
            ):
                yield node, f"{node.attr} of an exception that is not ours"
    for call, name in source.calls():
        if name in {
            "traceback.format_exc",
            "traceback.print_exc",
            "traceback.format_exception",
            "traceback.print_exception",
        }:
            yield call, f"{name}() repeats the exception's text"


def log_text(source: Source) -> Found:
    """A log holds names of ours, numbers and opaque ids; see `dicom_services/log.py`."""
    for call, name in source.calls():
        if name.startswith("logging.") and last(name) in {
            *("debug", "info", "warning", "error", "critical", "exception", "log"),
        }:
            yield call, "log by event()"
        if name not in {"dicom_services.log.event", "event"}:
            continue
        first = call.args[0] if call.args else None
        if not (isinstance(first, ast.Constant) and re.fullmatch(r"[a-z_.]+", str(first.value))):
            yield call, "an event's name is a constant"
        for one in call.keywords:
            if one.arg is None:
                yield call, "fields of a log line are written out"
            elif one.arg not in {"error", "level"} and makes_text(one.value):
                yield one.value, f"{one.arg}= is made of other text"


def makes_text(node: ast.expr) -> bool:
    """Whether a field is glued together or read from a dataset instead of being a known word."""
    if isinstance(node, ast.JoinedStr | ast.BinOp) and not _counts(node):
        return True
    if isinstance(node, ast.Call):
        called = node.func
        return (isinstance(called, ast.Name) and called.id in {"str", "repr", "format"}) or (
            isinstance(called, ast.Attribute) and called.attr in {"format", "join", "get"}
        )
    # DICOM's keywords are the only attributes that start with a capital letter.
    return isinstance(node, ast.Attribute) and node.attr[:1].isupper()


def _counts(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and not any(
        isinstance(one, ast.JoinedStr)
        or (isinstance(one, ast.Constant) and isinstance(one.value, str))
        for one in ast.walk(node)
    )


def plugin_log_text(source: Source) -> Found:
    """The plugin writes into Orthanc's log: a constant, a type, a code, a count, nothing else."""
    if not source.path.startswith("orthanc_plugins/"):
        return
    for call, name in source.calls():
        # The one place that hands its text on is judged by its callers.
        if last(name) not in {"_log", "LogError", "LogInfo"}:
            continue
        for one in ast.walk(call):
            if isinstance(one, ast.FormattedValue) and not _harmless(one.value):
                yield call, "only {code}, {count}, {position} and {type(error).__name__}"
        if call.args and not isinstance(call.args[0], ast.Constant | ast.JoinedStr):
            yield call, "a text of ours, not a variable"


def _harmless(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute) and node.attr == "__name__":
        return isinstance(node.value, ast.Call)
    word = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return word in {"code", "count", "position"}


def print_outside_cli(source: Source) -> Found:
    """What a person reads is written by the command line alone."""
    name = Path(source.path).name
    if name.startswith("cli") or name in SCREENS or source.path.startswith(".ci/"):
        return
    for call, name in source.calls():
        if name in {"print", "sys.stdout.write", "sys.stderr.write"}:
            yield call, f"{name}() outside of cli"


# --- programs, files and the network -----------------------------------------------------------

STARTERS = {"run", "Popen", "call", "check_call", "check_output"}


def shell(source: Source) -> Found:
    """Programs are started from lists; no shell reads what we write."""
    for call, name in source.calls():
        if name in {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}:
            yield call, f"{name}() starts a shell"
        if name.startswith(("os.spawn", "asyncio.create_subprocess_shell")):
            yield call, f"{name}()"
        if is_true(keyword(call, "shell")):
            yield call, "shell=True"
        if name in {f"subprocess.{one}" for one in STARTERS} and call.args:
            command = call.args[0]
            text = isinstance(command, ast.JoinedStr | ast.BinOp) or (
                isinstance(command, ast.Constant) and isinstance(command.value, str)
            )
            if isinstance(command, ast.BinOp):
                text = not isinstance(command.left, ast.List | ast.Name | ast.BinOp)
            split = isinstance(command, ast.Call) and last(source.full_name(command.func)) in {
                "split"
            }
            if text or split:
                yield call, "a command is a list"


def time_limit(source: Source) -> Found:
    """Whoever waits for somebody else says for how long."""
    needs = {
        **{f"subprocess.{one}": ("timeout",) for one in STARTERS - {"Popen"}},
        **{f"httpx.{one}": ("timeout",) for one in ("Client", "AsyncClient", "get", "post", "put")},
        **{f"requests.{one}": ("timeout",) for one in ("get", "post", "put", "request")},
        "urllib.request.urlopen": ("timeout",),
        "http.client.HTTPConnection": ("timeout",),
        "http.client.HTTPSConnection": ("timeout",),
        "redis.Redis": ("socket_timeout",),
    }
    for call, name in source.calls():
        if name in needs and not any(keyword(call, one) for one in needs[name]):
            yield call, f"{name}() without {needs[name][0]}="
        waits = name == "socket.create_connection" and len(call.args) < 2
        if waits and keyword(call, "timeout") is None:
            yield call, f"{name}() without timeout"


def tls_off(source: Source) -> Found:
    """Certificates are checked, redirects of others are not followed."""
    for call, name in source.calls():
        if is_false(keyword(call, "verify")) or is_false(keyword(call, "check_hostname")):
            yield call, "certificates are not checked"
        if name in {"ssl._create_unverified_context", "ssl._create_stdlib_context"}:
            yield call, name
        if is_true(keyword(call, "follow_redirects")):
            yield call, "a redirect leads where another party wants"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and source.full_name(node) == "ssl.CERT_NONE":
            yield node, "ssl.CERT_NONE"


def temporary_name(source: Source) -> Found:
    """A name that was free a moment ago is not ours."""
    for call, name in source.calls():
        if name in {"tempfile.mktemp", "os.tempnam", "os.tmpnam"}:
            yield call, f"{name}()"


def secret_comparison(source: Source) -> Found:
    """A secret is compared in constant time."""
    secret = re.compile(r"password|secret|signature|token|\bmac\b")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            sides = [node.left, *node.comparators]
            named = [last(source.full_name(side)) for side in sides]
            if any(secret.search(name) for name in named) and not any(
                isinstance(side, ast.Constant) for side in sides
            ):
                yield node, "== tells by its time how much was right; hmac.compare_digest"


def no_assert(source: Source) -> Found:
    """`python -O` leaves asserts out; what must hold is checked and has a code."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert):
            yield node, "assert in product code"


RULES: dict[str, Callable[[Source], Found]] = {
    "code-from-data": code_from_data,
    "torch-load": torch_load,
    "queue-serializer": queue_serializer,
    "unpacking": unpacking,
    "xml-parser": xml_parser,
    "unchecked-dataset": unchecked_dataset,
    "error-text": error_text,
    "log-text": log_text,
    "plugin-log-text": plugin_log_text,
    "print-outside-cli": print_outside_cli,
    "shell": shell,
    "time-limit": time_limit,
    "tls-off": tls_off,
    "temporary-name": temporary_name,
    "secret-comparison": secret_comparison,
    "no-assert": no_assert,
}


def complaints(text: str, path: str) -> list[str]:
    """What the rules say about one file, as `path:line: rule: why`."""
    source = Source(path, text)
    lines = text.splitlines()
    told = []
    for name, rule in RULES.items():
        for node, why in rule(source):
            at = getattr(node, "lineno", 1)
            until = getattr(node, "end_lineno", at) or at
            allowed = {mark for line in lines[at - 1 : until] for mark in ALLOWED.findall(line)}
            if name not in allowed:
                told.append(f"{path}:{at}: {name}: {why}")
    return sorted(set(told))


def main(arguments: list[str]) -> int:
    """Check the product, or the files and folders named."""
    places = [Path(one) for one in arguments] or [ROOT / name for name in PRODUCT]
    told = []
    for place in places:
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            shown_as = path.resolve().relative_to(ROOT).as_posix()
            told += complaints(path.read_text("utf-8"), shown_as)
    print("\n".join(told) if told else f"{len(RULES)} house rules kept")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
