"""Every house rule finds its bad snippet, leaves the good one alone, and the product keeps all."""

from __future__ import annotations

import textwrap

import pytest

from tests.house_rules import PRODUCT, ROOT, RULES, complaints

PLUGIN = "orthanc_plugins/router.py"
PRODUCT_FILE = "dicom_services/some.py"

BAD = [
    ("code-from-data", "import pickle"),
    ("code-from-data", "from marshal import loads"),
    ("code-from-data", "def load():\n    import shelve"),
    ("code-from-data", "eval(text)"),
    ("code-from-data", "exec(text)"),
    ("code-from-data", "__import__(name)"),
    ("code-from-data", "import yaml\nyaml.load(text)"),
    ("code-from-data", "from yaml import load\nload(text)"),
    ("code-from-data", "import numpy as np\nnp.load(path, allow_pickle=True)"),
    ("torch-load", "import torch\ntorch.load(path)"),
    ("torch-load", "import torch as t\nt.load(path, weights_only=False)"),
    ("queue-serializer", "from rq import Queue\nQueue('cpu', connection=redis)"),
    ("queue-serializer", "from rq.job import Job\nJob.fetch(name, connection=redis)"),
    ("queue-serializer", "_NodeWorker(queues, connection=redis)"),
    ("unpacking", "archive.extractall(folder)"),
    ("unpacking", "import shutil\nshutil.unpack_archive(path)"),
    ("xml-parser", "import xml.etree.ElementTree as tree"),
    ("xml-parser", "from lxml import etree"),
    ("unchecked-dataset", "data.walk(show)"),
    ("unchecked-dataset", "data.remove_private_tags()"),
    ("unchecked-dataset", "text = str(ds)"),
    ("unchecked-dataset", "text = f'{dataset}'"),
    ("unchecked-dataset", "import pydicom\npydicom.dcmread(path, force=True)"),
    ("error-text", "try:\n    f()\nexcept OSError as error:\n    raise A(str(error))"),
    ("error-text", "try:\n    f()\nexcept OSError as error:\n    raise A(f'no: {error}')"),
    ("error-text", "try:\n    f()\nexcept (InputError, KeyError) as e:\n    raise A('%s' % e)"),
    ("error-text", "try:\n    f()\nexcept ValueError as e:\n    raise A(e.args[0])"),
    ("error-text", "import traceback\ntraceback.format_exc()"),
    ("log-text", "from dicom_services.log import event\nevent(f'job.{name}')"),
    ("log-text", "from dicom_services.log import event\nevent('job.done', code=str(x))"),
    ("log-text", "from dicom_services.log import event\nevent('job.done', code=f'a{x}')"),
    ("log-text", "from dicom_services.log import event\nevent('job.done', code='a' + x)"),
    ("log-text", "from dicom_services.log import event\nevent('job.done', code=one.PatientID)"),
    ("log-text", "from dicom_services.log import event\nevent('job.done', code=one.get('a'))"),
    ("log-text", "from dicom_services.log import event\nevent('job.done', **facts)"),
    ("log-text", "import logging\nlogging.warning('%s', name)"),
    ("print-outside-cli", "print(text)"),
    ("print-outside-cli", "import sys\nsys.stderr.write(text)"),
    ("shell", "import os\nos.system(text)"),
    ("shell", "from os import popen\npopen(text)"),
    ("shell", "import subprocess\nsubprocess.run(['a'], shell=True, timeout=1)"),
    ("shell", "import subprocess\nsubprocess.run('ls -l', timeout=1)"),
    ("shell", "import subprocess\nsubprocess.run(f'ls {name}', timeout=1)"),
    ("shell", "from subprocess import Popen\nPopen(text.split())"),
    ("time-limit", "import subprocess\nsubprocess.run(['a'])"),
    ("time-limit", "import httpx\nhttpx.Client(base_url=url)"),
    ("time-limit", "from urllib.request import urlopen\nurlopen(url)"),
    ("time-limit", "import redis\nredis.Redis(host=host)"),
    ("time-limit", "import socket\nsocket.create_connection(address)"),
    ("tls-off", "import httpx\nhttpx.Client(verify=False, timeout=1)"),
    ("tls-off", "import ssl\ncontext.verify_mode = ssl.CERT_NONE"),
    ("tls-off", "import httpx\nhttpx.get(url, follow_redirects=True, timeout=1)"),
    ("temporary-name", "import tempfile\ntempfile.mktemp()"),
    ("secret-comparison", "ok = given == self.password"),
    ("secret-comparison", "ok = signature != expected"),
    ("no-assert", "assert count > 0"),
]

GOOD = [
    "import json\njson.loads(text)",
    "import re\nre.compile(text)",
    "import torch\ntorch.load(path, weights_only=True)",
    "from rq import Queue\nQueue('cpu', connection=redis, serializer=ours)",
    "import os\nfor folder, _, names in os.walk(top):\n    pass",
    "def walk(items):\n    walk(items)",
    "import pydicom\npydicom.dcmread(path)",
    "try:\n    f()\nexcept RadloopError as error:\n    echo(str(error))",
    "try:\n    f()\nexcept OSError as error:\n    raise A('closed') from error",
    "try:\n    f()\nexcept OSError as error:\n    if error.args[0] in (7, 17):\n        raise",
    "from dicom_services.log import event\nevent('job.done', code=error.code, count=len(found))",
    "from dicom_services.log import event\nevent('job.done', millis=round((now - began) * 1000))",
    "import subprocess\nsubprocess.run([*command, '-c', path], timeout=60)",
    "import socket\nsocket.create_connection(address, 1.0)",
    "import httpx\nhttpx.Client(base_url=url, timeout=30)",
    "import hmac\nok = hmac.compare_digest(given, password)",
    "ok = password == ''",
]


def rules_of(snippet: str, path: str = PRODUCT_FILE) -> set[str]:
    """The rules that complain."""
    return {one.split(": ")[1] for one in complaints(snippet, path)}


@pytest.mark.parametrize(("rule", "snippet"), BAD)
def test_bad_snippet_breaks_its_rule(rule: str, snippet: str) -> None:
    assert rule in rules_of(snippet)


@pytest.mark.parametrize("snippet", GOOD)
def test_good_snippet_breaks_none(snippet: str) -> None:
    assert rules_of(snippet) == set()


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("_log('radloop: the queue does not answer')", True),
        ("_log(f'radloop: route {type(error).__name__}')", True),
        ("self._log(f'radloop: a series failed: {code}')", True),
        ("self._log(f'radloop: {error}')", False),
        ("self._log(f'radloop: {facts}')", False),
        ("self._log(text)", False),
        ("self._log('radloop: ' + name)", False),
    ],
)
def test_plugin_logs_types_codes_and_counts_only(line: str, kept: bool) -> None:
    assert ("plugin-log-text" not in rules_of(line, PLUGIN)) is kept


def test_every_rule_has_a_snippet_that_breaks_it() -> None:
    assert {rule for rule, _ in BAD} | {"plugin-log-text"} == set(RULES)


def test_a_rule_is_lifted_by_name_and_reason_only() -> None:
    line = "import subprocess\nsubprocess.run(command)"
    assert rules_of(line + "  # house: time-limit - slow lines") == set()
    assert rules_of(line + "  # house: time-limit") == {"time-limit"}
    assert rules_of(line + "  # house: shell - another rule") == {"time-limit"}


def test_a_complaint_names_file_line_and_rule() -> None:
    text = textwrap.dedent("""
        def check(count):
            assert count > 0
    """)
    assert complaints(text, PRODUCT_FILE) == [
        "dicom_services/some.py:3: no-assert: assert in product code"
    ]


def test_the_product_keeps_every_rule() -> None:
    told = []
    for name in PRODUCT:
        for path in sorted((ROOT / name).rglob("*.py")):
            told += complaints(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    assert told == []
