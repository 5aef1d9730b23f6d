"""With a layer off the attacks it stops succeed, so the corpus has teeth: every one of the 76 is seen to work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sparring.envs.code.worker import TIERS, interpreter

sys.path.insert(0, str(Path(__file__).parent))
from attacks import ATTACKS, PRELUDE  # siblings of this test, not of the package
from leaks import ARTEFACTS
from running import run_corpus

# what only root can do even without any layer
ROOTS = {"mknod_device", "mount_tmpfs", "raw_socket", "bpf", "tiocsti"}
# need the cap alone off, or no process of its own at all
ELSEWHERE = {"output_flood", "stderr_flood", "recursion_segv"}
# stopped by settings of this machine when no layer is on: refused to ordinary users on many
MACHINES = {"bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "userns_create", "keyctl_session", "tiocsti"}
MACHINES |= {"core_dump", "chroot_escape"}  # where cores go elsewhere, and where user namespaces are refused

READS = {"read_etc_passwd", "ctypes_open_passwd", "read_ssh_key", "read_trajectory_db", "proc_self_root"}
LATE = {"infinite_loop", "infinite_sleep"}
OFF: dict[str, tuple[str, tuple[str, ...], set[str]]] = {
    "seccomp": ("landlock", ("seccomp",), {"udp_send", "unix_path", "netlink_socket", "wx_machine_code"}),
    "seccomp, the only layer": (
        "compute-only",
        ("seccomp",),
        {"tcp_connect", "write_tmp", "exec_shell", "kill_parent"},
    ),
    "landlock": ("landlock", ("landlock",), READS | {"list_proc_cmdlines"}),
    "namespaces and landlock": ("namespaces", ("namespaces", "landlock"), READS | {"list_proc_cmdlines"}),
    "clock": ("landlock", ("clock",), LATE),
    "limits": ("landlock", ("limits",), {"mem_bomb"}),
    "descriptors": ("landlock", ("descriptors",), {"read_inherited_fds", "read_own_environ"}),
    "output caps": ("landlock", (), {"output_flood", "stderr_flood"}),
    "private": ("landlock", ("private", "user", "landlock", "seccomp"), {"setuid_gain"}),
    "user, of root": ("compute-only", ("user", "seccomp"), {"chmod_secret", "utime_db", "kill_victim", "delete_db"}),
}


def _without(tier: str, off: tuple[str, ...], leaky: bool) -> dict[str, object]:
    """Settings of the corpus; ``leaky`` hands on our environment and descriptors as well."""
    return {"layers": [layer for layer in TIERS[tier] if layer not in off], "leaky": leaky}


@pytest.mark.parametrize("layer", OFF)
def test_without_a_layer_its_attacks_work(layer: str) -> None:
    tier, off, expected = OFF[layer]
    settings = _without(tier, off, leaky=layer == "descriptors")
    found = run_corpus(
        {
            **settings,
            "uncapped": layer == "output caps",
            "only": sorted(expected),
            "wall_s": 5,
        }
    )
    assert set(found["worked"]) == expected


def test_with_the_layer_on_again_the_same_attacks_fail() -> None:
    names = sorted(set().union(*(expected for _, _, expected in OFF.values())) - LATE)
    assert run_corpus({**_without("landlock", (), leaky=False), "only": names})["worked"] == {}


@pytest.mark.slow  # half a minute: each endless program runs until the zygote counts as stuck
def test_without_any_layer_an_ordinary_user_sees_nearly_every_attack_work() -> None:
    expected = {*ATTACKS, *ARTEFACTS} - ROOTS - ELSEWHERE - MACHINES - {"surrogate_output"}
    if os.geteuid() != 0:
        expected.remove("kill_all")  # it would reach every process of this user
    names = sorted(expected)
    found = run_corpus({"layers": [], "leaky": True, "only": names, "wall_s": 20}, ordinary=True)
    assert set(found["worked"]) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_without_any_layer_root_sees_the_rest_work() -> None:
    names = sorted(ROOTS | MACHINES)
    found = run_corpus({"layers": [], "leaky": True, "only": names})
    assert {"mknod_device", "mount_tmpfs", "raw_socket", "chroot_escape"} <= set(found["worked"])
    missing = set(names) - set(found["worked"])
    if missing:
        pytest.skip(f"this machine refuses even root: {', '.join(sorted(missing))}")


def test_endless_recursion_ends_a_process_that_runs_programs_itself() -> None:
    source = (
        f"PROOF = ''\n{PRELUDE}\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n{ATTACKS['recursion_segv'].source}"
    )
    done = subprocess.run([interpreter(), "-c", source], capture_output=True, check=False)
    assert done.returncode == -signal.SIGSEGV


def test_every_isolation_attack_is_shown_to_work_somewhere() -> None:
    shown = set().union(*(expected for _, _, expected in OFF.values()))
    ordinary = {*ATTACKS} - ROOTS - ELSEWHERE - MACHINES
    assert set(ATTACKS) <= shown | ordinary | ROOTS | MACHINES | {"recursion_segv"}
