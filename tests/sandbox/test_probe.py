"""The self-test at the start: each of its attacks is live without the layers, and each that succeeds is a refusal."""

from __future__ import annotations

import pytest

from sparring.envs.code import probe, worker
from sparring.envs.code.sandbox import AUTO, Sandbox
from sparring.envs.code.worker import TIERS, Job, Zygote, ZygoteFailed
from sparring.scenarios.errors import SandboxUnavailable


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


def _without(tier: str, layer: str) -> tuple[str, ...]:
    return tuple(name for name in TIERS[tier] if name != layer)


def test_probe_attacks_are_live_without_any_layer() -> None:
    dead = set(probe.ATTACKS) - _succeeding(())
    if "new_namespace" in dead:  # a thread that another attack left running forbids new namespaces
        dead -= _succeeding(())
    # an ordinary user cannot become root anywhere
    assert dead <= {"become_root"}


def test_without_seccomp_attacks_succeed_and_the_self_test_says_so() -> None:
    assert {"ptrace", "open_socket", "signal_by_pipe"} <= _succeeding(_without("landlock", "seccomp"))
    zygote = Zygote(_without("landlock", "seccomp"), 0)
    try:
        assert any("open_socket" in finding for finding in probe.findings(zygote))
    finally:
        zygote.close()


def test_without_landlock_the_landlock_tier_can_read_files() -> None:
    assert "read_passwd" in _succeeding(_without("landlock", "landlock"))


def test_without_seccomp_the_namespace_tier_lets_attacks_through() -> None:
    try:
        assert {"execute", "open_socket", "ptrace"} <= _succeeding(_without("namespaces", "seccomp"))
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


@pytest.mark.parametrize("name", [*probe.ATTACKS, *probe.BOUNDS])
def test_every_probe_that_succeeds_is_a_refusal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in probe.ATTACKS:
        monkeypatch.setitem(probe.ATTACKS, name, "pass")
    else:
        monkeypatch.setitem(probe.BOUNDS, name, lambda zygote: True)
    with pytest.raises(SandboxUnavailable, match=f"attack {name} succeeded"):
        Sandbox("compute-only")


# what is broken inside the zygote or its child, and the words of the refusal
STEPS = {
    "unshare": ("namespaces", "unshare: Operation not permitted", "kernel.unshare"),
    "map of users": ("namespaces", "Operation not permitted", "namespaces._mapper = namespaces._map_ids"),
    "mount": ("namespaces", "Operation not permitted", "kernel.mount"),
    "pivot_root": ("namespaces", "Operation not permitted", "kernel.pivot_into"),
    "landlock version": ("landlock", "Operation not permitted", "landlock.version"),
    "landlock restrict": ("landlock", "never reached|positive control.*landlock", "landlock.restrict"),
    "capabilities": ("compute-only", "Operation not permitted", "kernel.drop_capabilities"),
    "no new privileges": ("compute-only", "Operation not permitted", "kernel.stay_private"),
    "seccomp": ("compute-only", "positive control.*seccomp", "seccomp.Filter.install"),
    "limits": ("compute-only", "positive control.*limits", "child._limit"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_the_kernel_refuses_is_a_refusal_with_its_name(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tier, said, broken = STEPS[step]
    module = broken.split(".")[0]
    boot = (
        "import sys; sys.path.append(sys.argv[1]); import jail.zygote as z\n"
        f"from jail import {module}\n"
        f"def refuse(*_): raise PermissionError(1, {step!r} + ': Operation not permitted')\n"
        f"{broken} = refuse\nsys.path.pop(); z.main(sys.argv[2], int(sys.argv[3]))"
    )
    monkeypatch.setattr(worker, "_BOOT", boot)
    with pytest.raises(SandboxUnavailable, match=said) as refused:
        Sandbox(tier)
    assert "To use it: " in str(refused.value)
