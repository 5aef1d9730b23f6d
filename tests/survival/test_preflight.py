"""A disk that would lose a run is refused before the run has a row, with a way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sparring.scenarios.errors import StorageFull, StoreError
from sparring.storage import preflight
from sparring.storage.store import Store

LOCAL = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n"


def mounted(place: Path, kind: str, then: str = "") -> str:
    """A table of mounts with one more, as Linux writes it."""
    told = str(place).replace(" ", "\\040")
    return f"{LOCAL}40 22 0:50 / {told} rw,nosuid - {kind} server:/export rw,vers=4.2\n{then}"


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space in its name, whose file system ``table`` beside it tells."""
    monkeypatch.delenv(preflight.ALLOW, raising=False)
    monkeypatch.setattr(preflight, "MOUNTS", tmp_path / "table")
    folder = tmp_path / "a disk" / "runs"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("kind", ["nfs4", "nfs", "cifs", "smb3", "fuse.sshfs", "lustre", "ceph"])
def test_a_network_disk_is_refused_by_its_kind_with_a_way_out(disk: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "table").write_text(mounted(disk.parent, kind))
    with pytest.raises(StoreError, match=rf"{disk}.*\({kind}\).*--db FILE.*postgresql.*{preflight.ALLOW}=1"):
        Store(disk / "sparring.db")
    assert list(disk.iterdir()) == []  # nothing was begun


def test_a_database_that_came_to_lie_on_a_network_disk_is_read_and_not_written(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "table").write_text(LOCAL)
    with Store(disk / "sparring.db") as store:
        store.start_run("sample", {}, "digest", 0)
    (tmp_path / "table").write_text(mounted(disk, "nfs4"))
    with Store(disk / "sparring.db") as store:
        assert store.run("r1").status == "killed"
        with pytest.raises(StoreError, match="nfs4"):
            store.start_run("sample", {}, "digest", 0)
        with pytest.raises(StoreError, match="nfs4"):
            store.resume_point("r1")


def test_whoever_knows_better_says_so(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table").write_text(mounted(disk, "nfs4"))
    monkeypatch.setenv(preflight.ALLOW, "1")
    with Store(disk / "sparring.db") as store:
        assert store.start_run("sample", {}, "digest", 0).id == "r1"


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "9p", "virtiofs", "fuse.bindfs"])
def test_a_disk_of_this_machine_alone_is_taken(disk: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "table").write_text(mounted(disk, kind))
    Store(disk / "sparring.db").close()


def test_the_nearest_and_the_latest_mount_count(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "table").write_text(mounted(disk.parent, "nfs4", f"41 40 0:51 / {disk}".replace("a disk", "a\\040disk")
                                            + " rw - xfs /dev/vdb rw\n"))  # fmt: skip
    assert preflight.filesystem(disk) == "xfs" and preflight.filesystem(disk.parent) == "nfs4"
    assert preflight.filesystem(tmp_path) == "ext4"
    (tmp_path / "table").write_text(mounted(disk, "nfs4") + mounted(disk, "xfs").removeprefix(LOCAL))
    assert preflight.filesystem(disk) == "xfs"


@pytest.mark.parametrize("table", [None, "", "no such lines\n", "1 2 - \n - - -\n"])
def test_where_nothing_tells_nothing_is_refused(disk: Path, tmp_path: Path, table: str | None) -> None:
    if table is not None:
        (tmp_path / "table").write_text(table)
    assert preflight.filesystem(disk) == ""
    preflight.check_disk(disk / "sparring.db")


def test_this_machines_own_table_is_read(tmp_path: Path) -> None:
    assert not preflight.MOUNTS.exists() or preflight.filesystem(tmp_path)
    preflight.check_disk(tmp_path / "sparring.db")


TINY = """
set -e
mount -t tmpfs -o {options},size=16m none "$1"
touch "$1/given"
[ -z "{after}" ] || mount -o remount,ro "$1"
exec "$2" -c "
import sys
from pathlib import Path
from sparring.storage.store import Store
try:
    with Store(Path(sys.argv[1]) / 'sparring.db') as store:
        store.start_run('sample', {{}}, 'digest', 0)
except Exception as error:
    print(type(error).__name__, getattr(error, 'exit_code', 0), error)
print(len(list(Path(sys.argv[1]).iterdir())), 'files')
" "$1"
"""


def on_a_disk(folder: Path, options: str, after: str = "") -> str:
    """What opening a database says on a disk of its own with these options."""
    words = ["unshare", "-Urm", "sh", "-c", TINY.format(options=options, after=after), "sh"]
    done = subprocess.run([*words, str(folder), sys.executable], capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stderr for word in ("unshare:", "mount:")):
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_disk_without_inodes_is_refused_before_a_file_is_made(tmp_path: Path) -> None:
    said = on_a_disk(tmp_path, "nr_inodes=16")
    assert f"{StorageFull.__name__} 75" in said and "room for 14 more files" in said and "1 files" in said
    assert "files" in on_a_disk(tmp_path, "nr_inodes=100") and "Error" not in on_a_disk(tmp_path, "nr_inodes=100")


def test_a_disk_mounted_read_only_is_refused_by_name(tmp_path: Path) -> None:
    said = on_a_disk(tmp_path, "nr_inodes=100", "ro")
    assert said.startswith("StoreError") and f"{tmp_path} is mounted read-only" in said and "1 files" in said


FEW = """
import resource, sys
if sys.argv[1] != "-1":
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
from sparring.envs.code.sandbox import borrow, give_back
held = borrow("auto", 2, allow_unsafe=False)
print(held.tier)
give_back(held)
"""


def test_a_sandbox_needs_no_more_than_sixty_four_descriptors() -> None:
    """Bites: set descriptors aside at numbers from 100 on, and no tier passes its self-test."""
    many, few = (
        subprocess.run([sys.executable, "-c", FEW, most], capture_output=True, text=True, check=False)
        for most in ("-1", "64")
    )
    if many.returncode:
        pytest.skip(f"no tier of the sandbox works here: {many.stderr[-200:]}")
    assert (few.returncode, few.stdout) == (0, many.stdout), few.stderr
