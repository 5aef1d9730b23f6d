"""What a disk must offer before a run writes its first row to it: local, not read-only, files left to make."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sparring.scenarios.errors import StorageFull, StoreError

MOUNTS = Path("/proc/self/mountinfo")  # Linux only; elsewhere no file system is told apart
ALLOW = "SPARRING_ALLOW_NETWORK_DISK"
FEWEST_FILES = 32  # a database, its log, its index, a lock, and a checkpoint being written beside the one it replaces
# Shared by several machines, whose processes share no memory and trust locks that a server may forget.
NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "pvfs2"),
    *("orangefs", "ocfs2", "gfs2", "davfs", "fuse.sshfs", "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs"),
    *("fuse.gcsfuse", "fuse.goofys", "fuse.smbnetfs", "fuse.curlftpfs", "fuse.davfs2", "fuse.juicefs", "fuse.mfs"),
    *("fuse.lizardfs", "fuse.cvmfs"),
}
_OCTAL = re.compile(r"\\([0-7]{3})")


def check_disk(database: Path) -> None:
    """Raise ``StoreError`` with a way out where a database at this path, with checkpoints beside it, would not be safe.

    A network file system is let through when ``SPARRING_ALLOW_NETWORK_DISK=1``.
    """
    folder = database.resolve().parent
    if (kind := filesystem(folder)) in NETWORK and os.environ.get(ALLOW) != "1":
        raise StoreError(
            f"{database}: {folder} is a network file system ({kind}). A run's database keeps its log in memory that "
            "readers share, which machines do not, so rows could be lost. Put it on a local disk with --db FILE, or "
            "on a server with --db postgresql+psycopg://...; "
            f"where no second machine ever opens it, {ALLOW}=1 lets it through"
        )
    try:
        found = os.statvfs(folder)
    except OSError:
        return  # whoever opens the database says why
    if found.f_flag & os.ST_RDONLY:
        raise StoreError(f"{database}: the disk of {folder} is mounted read-only; give another path with --db")
    if found.f_files and found.f_favail < FEWEST_FILES:
        raise StorageFull(
            f"{database}: the disk of {folder} has room for {found.f_favail} more files (inodes), whatever its free "
            f"bytes; a run needs {FEWEST_FILES}. Remove files there, or give another path with --db"
        )


def filesystem(folder: Path) -> str:
    """The kind of file system a folder lies on, such as ``ext4`` or ``nfs4``; empty where nothing tells."""
    try:
        lines = MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        place = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4]))
        if len(place.parts) >= best and folder.is_relative_to(place):  # of two mounts on one place the later is seen
            best, kind = len(place.parts), after.split()[0]
    return kind
