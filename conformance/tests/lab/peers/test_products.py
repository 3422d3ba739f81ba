"""What shipped devices compute as whole products: revealed, kept, and shown on the page."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.reveal.products.revealed import Extent, reveal_shape
from q8a8_lab import native_build
from q8a8_lab.peers import ggml, page, products, store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHORT = Extent((1, 2, 3, 9), 64, 32, (1, 2, 3, 5), (32,))
FEW = Extent((), 64, 24, (1, 2), (32,))
"""Few shapes; each has shaders of its own, which are compiled at their first use."""
LIMIT = 240.0
"""Seconds that one product may take, with its shaders to be compiled."""


def test_devices_of_the_package(tmp_path: Path) -> None:
    """Every backend of the package is a device, with and without its options."""
    folder = tmp_path / "package" / "bins" / "linux"
    folder.mkdir(parents=True)
    for name in ("base", "cpu-zen4", "vulkan"):
        (folder / f"libggml-{name}.so").touch()
    found = [(device.library.name, device.options) for device in products.devices(tmp_path)]
    assert found == [
        ("libggml-cpu-zen4.so", ""),
        ("libggml-cpu-zen4.so", "threads=4"),
        ("libggml-cpu-zen4.so", "buffer=repack"),
        ("libggml-vulkan.so", ""),
        ("libggml-vulkan.so", "precision=f32"),
    ]
    assert not any(device.cpu for device in products.devices(tmp_path))
    (folder / "libggml-cpu-armv8.6_1.so").touch()
    emulated = [(d.options, d.cpu[:16]) for d in products.devices(tmp_path, emulated=True)]
    assert emulated[:2] == [("", "max,sve-max-vq=1"), ("buffer=repack", "max,sve-max-vq=1")]
    assert emulated[2:4] == [("", f"max,sve-max-vq={n}") for n in (2, 4)]


def test_a_device_that_does_not_load(tmp_path: Path) -> None:
    """A backend that does not load is not run, and says so."""
    library = tmp_path / "libggml-cpu-other.so"
    library.touch()
    assert products.reveal(products.Device(library)).not_run == "it does not load on this machine"


def test_an_installed_device(
    need: Callable[[object, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The installed ggml's product is revealed, kept in a file, and shown."""
    need(find_spec("pywhispercpp"), "pywhispercpp is not installed")
    need(platform.machine() == "x86_64", "the ggml that is judged here is x86-64 code")
    library = ggml.host_library()
    reveal = products.reveal
    tried = [products.Device(library), products.Device(library, "copy=rows,buffer=repack")]
    monkeypatch.setattr(products, "reveal", lambda device: reveal(device, SHORT))
    monkeypatch.setattr(products, "packages", lambda: tried)
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    assert products.load_products() == []
    assert products.main([]) == 0
    found, other = products.load_products()
    monkeypatch.setattr(products, "reveal", pytest.fail)
    assert products.main(["--resume"]) == 0
    assert products.load_products() == [found, other]
    assert found.rows["1"][0] == ["recipe:ggml-avx2", "order:avx2"]
    assert found.unexplained == 0 < found.of
    assert other.not_run == "the device does not offer the product"
    text = page.products_section([found, other])
    assert "`recipe:ggml-avx2`, `order:avx2`; 1 times" in text
    assert "- `" in text
    assert "`copy=rows,buffer=repack`: the device does not offer the product" in text


@pytest.fixture(scope="module")
def package(need: Callable[[object, str], None]) -> Path:
    """Return the folder of npm's ggml."""
    need(platform.machine() == "x86_64", "the package is x86-64 code")
    try:
        return store.fetch(store.NPM_GGML)
    except store.PeerUnavailableError as error:
        need(False, str(error))
        raise


@pytest.mark.parametrize(
    ("backend", "recipe", "order"),
    [("cpu-x64", "ggml-ref", "scalar"), ("cpu-haswell", "ggml-avx2", "avx2")],
)
def test_shipped_cpu_devices(package: Path, backend: str, recipe: str, order: str) -> None:
    """Two builds for x86-64 as they are shipped: recipe and order, whatever the shape."""
    (library,) = package.glob(f"package/bins/*/libggml-{backend}.so")
    found = products.reveal(products.Device(library), SHORT)
    names = [f"recipe:{recipe}", f"order:{order}"]
    assert found.rows["1"][0] == found.rows["512"][0] == names, found
    assert (found.is_invariant, found.unexplained) == (True, 0)
    assert found.of > 0


def test_a_shipped_vulkan_device(package: Path, need: Callable[[object, str], None]) -> None:
    """The Vulkan backend on Mesa's software device: floats for one row, and from nine on sums in half."""
    (library,) = package.glob("package/bins/*/libggml-vulkan.so")
    device = products.Device(library).sut()
    with device.session(LIMIT, start_timeout=LIMIT) as session:
        need("mul_mat_q8_a8" in session.hello.functions, "Mesa's software device is not installed")
        one, nine = (reveal_shape(session, n, FEW) for n in (1, 9))
    assert one.names == ("activations:float32", "accumulator:float32")
    assert nine.names == ("activations:float16", "accumulator:float16", "weights:float16")
    assert one.unexplained == nine.unexplained == 0 < min(one.of, nine.of)
    assert (one.past_half, nine.past_half) == ("", "65504")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("", ["recipe:ggml-neon", "order:scalar-fma"]),
        ("buffer=repack", ["recipe:ggml-neon", "order:scalar-fma"]),
    ],
)
def test_a_shipped_device_for_aarch64(
    need: Callable[[object, str], None], options: str, names: list[str]
) -> None:
    """In the C harness, in QEMU: two rows at a time by i8mm, and weights repacked in 4 x 8."""
    try:
        folder = store.fetch(store.NPM_GGML_ARM)
        (library,) = folder.glob("package/bins/*/libggml-cpu-armv8.6_1.so")
        device = products.Device(library, options, native_build.sve_cpu(128)).sut()
    except (store.PeerUnavailableError, native_build.NativeError) as error:
        need(False, str(error))
        raise
    with device.session(LIMIT, start_timeout=LIMIT) as session:
        one, two = (reveal_shape(session, n, FEW) for n in (1, 2))
    assert list(two.names) == names
    assert list(one.names) == (names if options else ["recipe:ggml-neon", "order:sve-128"])
    assert one.unexplained == two.unexplained == 0 < min(one.of, two.of)


def test_products_on_the_page() -> None:
    """A device whose arithmetic changes is shown with the shapes; without results there is no section."""
    rows = {"1": (["activations:float32"], 0.001), "512": (["accumulator:float16"], None)}
    where = ["n <= 8: a", "n >= 9: b"]
    result = products.ProductResult("a device", "threads=2", "ab", rows, where, of=10, known=["past halves"])
    emulated = replace(result, device="a.so, device CPU", options="", cpu=native_build.sve_cpu(256))
    text = page.products_section([result, emulated])
    assert "| `a device` `threads=2`<br>`a.so` on max, SVE of 256 bits | `activations" in text
    text = page.products_section([result])
    assert (
        "| `a device` `threads=2` | `activations:float32`; 0.001 times | `accumulator:float16`; ? times |"
        in text
    )
    assert "n <= 8: a<br>n >= 9: b | **no** | 0 of 10 | past halves |" in text
    assert page.products_section([]) == ""
    old = "# Page\n\n" + page.products_section([emulated]) + "\n## Another\n\nText\n"
    new = page.with_products(old, [result])
    assert new == old.replace(page.products_section([emulated]), text)
    with pytest.raises(ValueError, match="has no section"):
        page.with_products("# Page\n", [result])
