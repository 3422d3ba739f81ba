"""Certificates: schema, contents, merging, and the command line."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from q8a8_conformance import certify as package
from q8a8_conformance.certify import page as certify_page
from q8a8_conformance.certify.catalogue import names
from q8a8_conformance.cli import main
from q8a8_golden.generate.native import scalar_library

if TYPE_CHECKING:
    from collections.abc import Callable

    Certify = Callable[..., tuple[int, dict[str, Any]]]

SCHEMA = json.loads((Path(package.__file__).parent / "schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def library(need: Callable[[object, str], None]) -> Path:
    """Return the scalar C kernel."""
    path = scalar_library()
    need(path, "no C compiler")
    assert path is not None
    return path


def _valid(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(document, SCHEMA)


def test_sampled_reference(certify: Certify) -> None:
    """The reference is right on a sample of every domain, and the certificate's verdict is ``part``."""
    status, found = certify("ref", "--sample", "4000")
    _valid(found)
    assert (status, found["verdict"], found["whole"]) == (0, "part", False)
    assert [entry["name"] for entry in found["domains"]] == names()
    assert all(entry["result"] == "equal" and entry["count"] > 1000 for entry in found["domains"])


def test_sampled_c_kernel(certify: Certify, library: Path) -> None:
    """The scalar C kernel is right on a sample of all its domains; the certificate has its file's hash."""
    status, found = certify(
        f"lib:{library}", "--sample", "20000", "--domain", "scale-ref", *_all_but_conversions()
    )
    _valid(found)
    assert status == 0
    sha256 = hashlib.sha256(library.read_bytes()).hexdigest()
    assert found["kernel"]["files"] == {library.name: sha256}
    assert found["kernel"]["sha256"] == hashlib.sha256(f"{sha256}  {library.name}\n".encode()).hexdigest()
    assert {entry["result"] for entry in found["domains"]} == {"equal"}


def test_certificate_pages(certify: Certify, tmp_path: Path) -> None:
    """Markdown and HTML have the verdict, the domains with their rules, and the first wrong result."""
    markdown, page = tmp_path / "c.md", tmp_path / "c.html"
    written = ("--markdown", str(markdown), "--html", str(page))
    status, found = certify("ref", "--domain", "widen", *written)
    assert (status, found["verdict"]) == (0, "certified")
    text, html = markdown.read_text("utf-8"), page.read_text("utf-8")
    assert text.startswith("## certified: ref\n")
    assert "| `widen` | HLF-2, HLF-3 | 65,536 | 65,536 | equal |" in text
    assert '<p class="verdict conforms"><b>certified</b>' in html
    assert found["kernel"]["sha256"] in text
    assert found["kernel"]["sha256"] in html
    wrong = {"point": 7, "given": "half 0x0007 <b>", "expected": "0x34e00000", "got": "0x00000000"}
    (domain,) = found["domains"]
    domain |= {"result": "mismatch", "mismatch": wrong, "whole": False}
    found |= {"verdict": "mismatch", "whole": False}
    for shown in (certify_page.markdown(found), certify_page.html_page(found)):
        assert "A result is wrong." in shown or "a result is wrong" in shown
        assert "expected 0x34e00000\ngot      0x00000000" in shown
    assert "half 0x0007 &lt;b&gt;" in certify_page.html_page(found)


def _all_but_conversions() -> list[str]:
    return [word for name in names() if name not in ("half", "widen") for word in ("--domain", name)]


def test_sampled_harness(certify: Certify, need: Callable[[object, str], None]) -> None:
    """A worker of any kind is called over the protocol, and its executable is hashed."""
    native = pytest.importorskip("q8a8_lab.native_build")
    try:
        argv = native.harness_argv("scalar")
    except native.NativeError as error:
        need(False, str(error))
        raise
    status, found = certify(f"exec:{' '.join(argv)}", "--sample", "200")
    _valid(found)
    assert status == 0
    assert found["emulated"] is False
    assert sorted(found["kernel"]["files"]) == ["q8a8-harness", "q8a8-harness (as the worker says)"]
    assert [entry["name"] for entry in found["domains"]] == [n for n in names() if n not in ("half", "widen")]


def test_sampled_conversions_in_c(certify: Certify, need: Callable[[object, str], None]) -> None:
    """The C kernels' conversions are right on all halves and on a sample of floats."""
    native = pytest.importorskip("q8a8_lab.native_build")
    try:
        library = native.build("native") / "lib" / "libq8a8-half.so"
    except native.NativeError as error:
        need(False, str(error))
        raise
    assert certify(f"lib:{library}", "--domain", "widen")[1]["whole"]
    status, found = certify(
        f"lib:{library}", "--domain", "half", "--shard", "250/1024", "--sample", "1000000"
    )
    assert (status, [entry["name"] for entry in found["domains"]]) == (0, ["half"])


@pytest.fixture
def shards(certify: Certify, tmp_path: Path) -> list[Path]:
    """Return the certificates of three shards of the reference's products."""
    paths = []
    for number in (1, 2, 3):
        status, found = certify("ref", "--domain", "products-nrc2", "--shard", f"{number}/3")
        assert (status, found["verdict"]) == (0, "part")
        paths.append(tmp_path / f"shard-{number}.json")
        paths[-1].write_text(json.dumps(found), encoding="utf-8")
    return paths


def test_merge(certify: Certify, shards: list[Path], tmp_path: Path) -> None:
    """Three shards, in any order, even twice, are complete; two are not; a mismatch in one remains."""
    one, two, three = map(str, shards)
    status, whole = certify("merge", three, one, two, one)
    _valid(whole)
    assert (status, whole["verdict"], whole["whole"]) == (0, "certified", True)
    assert whole["domains"][0]["covered"] == [[0, whole["domains"][0]["points"]]]
    status, part = certify("merge", one, three)
    _valid(part)
    assert (status, part["verdict"], part["whole"]) == (4, "incomplete", False)

    document = json.loads(shards[1].read_text(encoding="utf-8"))
    wrong = {"point": 900000, "given": "x", "expected": "0x0", "got": "0x1"}
    document["domains"][0] |= {"result": "mismatch", "mismatch": wrong, "covered": [], "count": 0}
    changed = tmp_path / "wrong.json"
    changed.write_text(json.dumps(document), encoding="utf-8")
    status, bad = certify("merge", one, str(changed), two, three)
    _valid(bad)
    assert (status, bad["verdict"], bad["domains"][0]["mismatch"]) == (1, "mismatch", wrong)


def test_merge_refuses(certify: Certify, shards: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Other kernels, another version of the expected results, and invalid files are usage errors."""
    good = json.loads(shards[0].read_text(encoding="utf-8"))

    def refused(change: Callable[[dict[str, Any]], object], text: str) -> None:
        document = copy.deepcopy(good)
        change(document)
        shards[1].write_text(json.dumps(document), encoding="utf-8")
        assert certify("merge", str(shards[0]), str(shards[1]))[0] == 2
        assert text in capsys.readouterr().err

    capsys.readouterr()
    refused(lambda d: d["kernel"].update(sha256="0" * 64), "more than one kernel")
    refused(lambda d: d.update(truth_sha256="0" * 64), "more than one version of the expected results")
    refused(lambda d: d.update(truth_sha256="none"), "not a SHA-256")
    refused(lambda d: d.update(format=2), "not a certificate")
    refused(lambda d: d.pop("domains"), "is invalid")
    refused(lambda d: d["domains"][0].update(covered=[[0, 1 << 40]]), "outside the domain")
    refused(lambda d: d["domains"][0].update(points=99999999), "points in one certificate")
    refused(lambda d: d["domains"][0].update(result="fine"), "result 'fine'")
    refused(lambda d: d["domains"][0].update(result="mismatch"), "with mismatch None")
    shards[1].write_text("{", encoding="utf-8")
    assert certify("merge", str(shards[1]))[0] == 2
    assert certify("merge", str(shards[0].with_name("absent.json")))[0] == 2
    assert certify("merge")[0] == 2


@pytest.mark.parametrize(
    "words",
    [
        ["ref", "--domain", "everything"],
        ["ref", "--domain", "codes:7f800000"],
        ["ref", "--shard", "3/2"],
        ["ref", "--shard", "0/2"],
        ["ref", "--shard", "2"],
        ["ref", "--sample", "0"],
        ["ref", "other.json"],
        ["lib:absent.so"],
        ["ref", "--domain", "widen", "--json", "no/such/folder/certificate.json"],
        ["ref", "--domain", "widen", "--state", "no/such/folder/state.json"],
    ],
)
def test_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Invalid arguments are status 2, with an error message."""
    assert main(["certify", *words]) == 2
    assert capsys.readouterr().err.strip()


def test_worker_that_does_not_start(certify: Certify, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that sends no hello is not reached, and no certificate is written."""
    status, found = certify("exec:false")
    assert (status, found) == (5, {})
    assert "worker" in capsys.readouterr().err
