"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8.atomic import (
    is_standard_output,
    is_written_in_place,
    replacing,
    unwritable,
    write_bytes,
    write_text,
    writing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["new", "old"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a target that does not exist, and one that does."""
    path = tmp_path / "a.json"
    if request.param == "old":
        path.write_text("old", encoding="utf-8")
    return path


@pytest.fixture
def umask() -> Iterator[int]:
    """Set an unusual umask."""
    mask = 0o027
    before = os.umask(mask)
    yield mask
    os.umask(before)


def content(folder: Path) -> dict[str, bytes]:
    """Return what a folder's files hold."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_text_and_bytes_are_written_whole(target: Path) -> None:
    """Text is UTF-8 with its line ends unchanged, bytes are as they are, and no other file stays."""
    write_text("Größe\r\n", target)
    assert content(target.parent) == {"a.json": "Größe\r\n".encode()}
    write_bytes(b"\0\xff", target)
    assert content(target.parent) == {"a.json": b"\0\xff"}


def test_the_name_changes_hands_at_the_end(target: Path) -> None:
    """What is being written is another file in the same folder, until it is complete."""
    before = content(target.parent)
    with writing(target) as file:
        file.write(b"new")
        file.flush()
        (temporary,) = content(target.parent).keys() - {"a.json"}
        assert content(target.parent) == {**before, temporary: b"new"}
    assert content(target.parent) == {"a.json": b"new"}


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    """Temporary names are unique: of two writers at once, the later one's whole file stays."""
    path = tmp_path / "a"
    with writing(path) as one:
        one.write(b"one")
        with writing(path) as two:
            two.write(b"two")
        assert path.read_bytes() == b"two"
    assert content(tmp_path) == {"a": b"one"}


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file(target: Path, error: BaseException) -> None:
    """A failure, or an interrupt, in the middle leaves the folder as it was."""
    before = content(target.parent)

    def fail() -> None:
        with writing(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    assert content(target.parent) == before


def test_it_is_on_the_disk_before_it_has_the_name(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The complete file is synchronized before it is renamed; if that fails, nothing changes."""
    before = content(target.parent)

    def refuse(descriptor: int) -> None:
        """Fail, with everything written."""
        assert os.fstat(descriptor).st_size == 3
        raise OSError(errno.EIO, "the disk failed")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="the disk failed") as caught:
        write_text("new", target)
    assert caught.value.filename == str(target)
    assert content(target.parent) == before


@pytest.mark.parametrize("mode", [None, 0o600, 0o644, 0o755])
def test_permissions_are_those_of_open(tmp_path: Path, umask: int, mode: int | None) -> None:
    """A new file is what the umask allows; one that replaces another has the other's permissions."""
    path = tmp_path / "a"
    if mode is not None:
        path.touch()
        path.chmod(mode)
    write_text("new", path)
    assert stat.S_IMODE(path.stat().st_mode) == (0o666 & ~umask if mode is None else mode)


def test_links_stay_links(tmp_path: Path) -> None:
    """What a chain of symbolic links leads to is replaced, or made where nothing is there yet."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "second").symlink_to("folder/file")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    for text in ("new", "newer"):
        write_text(text, tmp_path / "first")
        assert (tmp_path / "first").is_symlink()
        assert (tmp_path / "second").is_symlink()
        assert content(tmp_path / "folder") == {"file": text.encode()}


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    """Links that lead to themselves are an error, as for `open`, and stay."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links") as caught:
        write_text("new", tmp_path / "a")
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(tmp_path / "a"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_in_place(tmp_path: Path, linked: bool) -> None:
    """A FIFO passes the bytes to its reader, and stays a FIFO."""
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_text("through", path)
    reader.join(10)
    assert read == [b"through"]
    assert pipe.is_fifo()
    assert path.is_symlink() is linked


@pytest.mark.parametrize("to", ["pipe", "file"])
@pytest.mark.parametrize("linked", [False, True])
def test_standard_output_is_written_in_place(tmp_path: Path, to: str, linked: bool) -> None:
    """`/dev/stdout`, a pipe or a file, gets the text where the process's other output goes."""
    path = Path("/dev/stdout")
    if linked:
        path = tmp_path / "link"
        path.symlink_to("/dev/stdout")
    program = (
        f"from pathlib import Path; from q8a8.atomic import write_text; write_text('x', Path({str(path)!r}))"
    )
    with (tmp_path / "out").open("w+b") as file:
        inode = (tmp_path / "out").stat().st_ino
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE if to == "pipe" else file,
            check=True,
        )
    assert (done.stdout or (tmp_path / "out").read_bytes()) == b"x"
    assert (tmp_path / "out").stat().st_ino == inode
    assert path.is_symlink()


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/proc/self/fd/1", "/dev/stderr"])
def test_a_standard_stream_goes_on(tmp_path: Path, name: str) -> None:
    """Text goes where the stream is: after what was written, also where it is a file, and before the rest."""
    program = (
        "import sys; from pathlib import Path; from q8a8.atomic import write_text\n"
        f"stream = sys.stderr if {name!r} == '/dev/stderr' else sys.stdout\n"
        f"stream.write('one '); write_text('two ', Path({name!r})); stream.write('three')"
    )
    with (tmp_path / "out").open("wb") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, stderr=file, check=True)
    assert (tmp_path / "out").read_bytes() == b"one two three"
    assert content(tmp_path).keys() == {"out"}


def test_a_standard_stream_of_this_process(capfd: pytest.CaptureFixture[str]) -> None:
    """What the process has written before comes before the text."""
    sys.stdout.write("one ")
    write_text("two", Path("/dev/stdout"))
    sys.stderr.write("three ")
    write_text("four", Path("/dev/stderr"))
    assert capfd.readouterr() == ("one two", "three four")


def test_a_stream_that_cannot_be_written_is_named() -> None:
    """A full device behind standard output is an error about the name that was given."""
    program = "from pathlib import Path; from q8a8.atomic import write_text; write_text('x', Path('-'))"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert b"No space left on device: '-'" in done.stderr


def test_names_of_standard_output(tmp_path: Path) -> None:
    """``-``, the device and links to it are standard output; it can be written, and only in place."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("-"), Path("/dev/stdout"), tmp_path / "link"):
        assert is_standard_output(path)
        assert is_written_in_place(path)
        assert unwritable(path) == ""
    for path in (Path("/dev/stderr"), tmp_path / "circle", tmp_path / "file", Path("/dev/null")):
        assert not is_standard_output(path)
    assert is_written_in_place(tmp_path / "pipe")
    assert not is_written_in_place(tmp_path / "file")
    assert not is_written_in_place(tmp_path / "none")


def test_an_open_file_of_a_process_is_written_in_place(tmp_path: Path) -> None:
    """A name under `/proc` of an open file leads to that very file."""
    with (tmp_path / "a").open("w+b") as file:
        write_text("x", Path(f"/proc/self/fd/{file.fileno()}"))
        assert file.read() == b"x"
    assert content(tmp_path) == {"a": b"x"}


@pytest.mark.parametrize("linked", [False, True])
def test_a_full_disk(tmp_path: Path, linked: bool) -> None:
    """An error of the disk names the file, and the device that it was about stays."""
    path = Path("/dev/full")
    if linked:
        path = tmp_path / "link"
        path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text("x", path)
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: {str(path)!r}"
    assert Path("/dev/full").is_char_device()


def test_errors_name_the_target(tmp_path: Path) -> None:
    """A missing folder, and a folder in the file's place, are errors about the target."""
    with pytest.raises(FileNotFoundError) as missing:
        write_text("x", tmp_path / "none" / "a")
    assert missing.value.filename == str(tmp_path / "none" / "a")
    with pytest.raises(IsADirectoryError) as folder:
        write_text("x", tmp_path)
    assert folder.value.filename == str(tmp_path)


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    """What fails while the file is written may be about another one."""
    with pytest.raises(FileNotFoundError) as caught, writing(tmp_path / "a"):
        (tmp_path / "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source")


def test_a_program_writes_the_file(target: Path) -> None:
    """`replacing` yields a name for another program; what is there at the end takes the target's place."""
    before = content(target.parent)
    with pytest.raises(FileNotFoundError) as caught, replacing(target):
        pass
    assert str(caught.value) == f"[Errno {errno.ENOENT}] No such file or directory: {str(target)!r}"
    assert content(target.parent) == before
    with replacing(target) as temporary:
        assert (temporary.parent, temporary.exists()) == (target.parent, False)
        temporary.write_text("new", encoding="utf-8")
    assert content(target.parent) == {"a.json": b"new"}


def test_what_cannot_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, one that is missing or read-only, and a closed device have a reason; all else has none."""
    (tmp_path / "link").symlink_to("none/a")
    (tmp_path / "circle").symlink_to("circle")
    missing = "the folder does not exist or cannot be written to"
    assert unwritable(tmp_path) == "is a folder"
    assert unwritable(tmp_path / "none" / "a") == missing
    assert unwritable(tmp_path / "link") == missing
    assert unwritable(tmp_path / "circle") == "Too many levels of symbolic links"
    assert unwritable(tmp_path / "a") == ""
    assert unwritable(Path("/dev/null")) == ""
    monkeypatch.setattr(os, "access", lambda path, _mode: path not in {tmp_path, Path("/dev/null")})
    assert unwritable(tmp_path / "a") == missing
    assert unwritable(Path("/dev/null")) == "cannot be written to"
