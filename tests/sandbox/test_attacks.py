"""No named attack gets through on any tier; without the layers most do, so the attacks have teeth."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparring.envs.code import probe
from sparring.envs.code.sandbox import AUTO, Limits, Outcome, Sandbox
from sparring.envs.code.worker import TIERS, Job, Zygote, ZygoteFailed

sys.path.insert(0, str(Path(__file__).parent))
from attacks import ATTACKS, Attack  # a sibling of this test, not of the package

QUICK = Limits(wall_s=0.8, cpu_s=1)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """Things worth attacking: a secret file, a database, a listening port, a process of the same user."""
    folder = tmp_path_factory.mktemp("target")
    folder.chmod(0o755)
    (folder / "secret").write_text("SECRET")
    (folder / "runs.db").write_text("rows")
    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"PYTHONHASHSEED": "0"})
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {
            "folder": folder,
            "port": server.getsockname()[1],
            "victim": victim.pid,
            "secret": f"sparring-daemon-{os.getpid()}",
        }
        assert victim.poll() is None
    victim.kill()
    victim.communicate()


def _fill(attack: Attack, target: dict[str, object]) -> str:
    source = attack.source
    for name, value in target.items():
        source = source.replace("{" + name + "}", str(value))
    return source


def _control(sandbox: Sandbox) -> None:
    ran = sandbox.run("print(sum(i * i for i in range(10)))")
    assert (ran.outcome, ran.stdout) == (Outcome.OK, "285\n")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_fails_and_the_sandbox_still_works(sandbox: Sandbox, attack: Attack, target: dict[str, object]) -> None:
    ran = sandbox.run(_fill(attack, target), limits=QUICK)
    assert ran.outcome is not Outcome.SANDBOX_ERROR
    assert not attack.worked(ran), ran
    assert (Path(str(target["folder"])) / "runs.db").read_text() == "rows"
    assert (Path(str(target["folder"])) / "secret").stat().st_mode & 0o777 == 0o644
    assert not _running(str(target["secret"]))
    _control(sandbox)


def test_most_attacks_work_when_nothing_isolates(target: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    stopped_by_limits = {"output_flood", "stderr_flood", "infinite_loop", "infinite_sleep", "ignore_signals"}
    leaves_a_process = {"setsid_daemon"}
    with Sandbox("none", workers=1, allow_unsafe=True) as unsafe:
        worked = {
            attack.name
            for attack in ATTACKS
            if attack.name not in stopped_by_limits | leaves_a_process
            and attack.worked(unsafe.run(_fill(attack, {**target, "folder": tmp_path})))
        }
    assert {"read_etc_passwd", "read_secret_file", "network_connect", "kill_victim", "exec_shell", "ptrace"} <= worked
    assert len(worked) >= 12, worked


def _running(argument: str) -> bool:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if argument.encode() in (folder / "cmdline").read_bytes().split(b"\0")[:1]:
                return True
        except OSError:
            continue
    return False


def _succeeding(layers: tuple[str, ...]) -> set[str]:
    zygote = Zygote(layers, 0)
    try:
        for _ in range(8):  # with a layer missing an attack may end the probe itself: then it is run again
            report = zygote.run(Job(probe.program("n").encode(), b"", 5.0, 5, 256 << 20, 1 << 14, 0, False))
            if not probe.control_problem(report, "n"):
                break
        assert probe.control_problem(report, "n") == []
        lines = report.stdout.decode().splitlines()
        return {line.removeprefix("worked ") for line in lines if line.startswith("worked ")}
    finally:
        zygote.close()


def test_probe_attacks_are_live_without_any_layer() -> None:
    dead = set(probe.ATTACKS) - _succeeding(())
    if "new_namespace" in dead:  # a thread that another attack left running forbids new namespaces
        dead -= _succeeding(())
    # no descriptor is left open in any tier, and an ordinary user cannot become root anywhere
    assert dead <= {"found_descriptor", "become_root"}


def test_without_seccomp_attacks_succeed_and_the_self_test_says_so() -> None:
    layers = tuple(name for name in TIERS["landlock"] if name != "seccomp")
    assert {"ptrace", "open_socket", "signal_by_pipe"} <= _succeeding(layers)
    zygote = Zygote(layers, 0)
    try:
        assert any("open_socket" in finding for finding in probe.findings(zygote))
    finally:
        zygote.close()


def test_without_landlock_the_landlock_tier_can_read_files() -> None:
    layers = tuple(name for name in TIERS["landlock"] if name != "landlock")
    assert "read_passwd" in _succeeding(layers)


def test_without_seccomp_the_namespace_tier_lets_attacks_through() -> None:
    layers = tuple(name for name in TIERS["namespaces"] if name != "seccomp")
    try:
        assert {"fork", "open_socket", "ptrace"} <= _succeeding(layers)
    except ZygoteFailed as failed:
        pytest.skip(str(failed))


@pytest.mark.parametrize("tier", AUTO)
def test_self_test_finds_nothing_on_a_whole_tier(tier: str) -> None:
    try:
        zygote = Zygote(TIERS[tier], 0)
    except ZygoteFailed as failed:
        pytest.skip(str(failed))
    try:
        assert probe.findings(zygote) == []
    finally:
        zygote.close()


def test_self_test_fails_when_nothing_runs_at_all() -> None:
    zygote = Zygote(TIERS["compute-only"], 0)
    try:
        report = zygote.run(Job(b"", b"", 5.0, 5, 256 << 20, 1 << 14, 0, False))
        assert "positive control" in probe.control_problem(report, "n")[0]
    finally:
        zygote.close()
