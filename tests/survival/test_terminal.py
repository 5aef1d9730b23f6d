"""Whoever leaves (the user, the terminal, the reader), a run ends in a whole step and leaves the terminal as it was."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparring.training.cli.stopping import Stop, steady

SCRIPT = Path(__file__).with_name("terminal.py")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """How each case ended, by its name: one process that has the libraries loaded plays them all."""
    words = [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("runs"))]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return {row["case"]: row for row in map(json.loads, done.stdout.splitlines())}


STOPPED = {"INT": 130, "TERM": 143, "HUP": 129, "ctrl-c": 130, "ctrl-c twice": 130, "hung up twice": 129,
           "closed": 129, "unread": 141}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", STOPPED)
def test_a_run_that_is_left_stops_at_a_whole_step(ended: Any, case: str) -> None:
    """Bites: take SIGHUP from ``SIGNALS``, let a second one stop at once, or let a write to nobody raise."""
    row = ended[case]
    assert (row["code"], row["status"], row["wrong"]) == (STOPPED[case], "stopped", []), row
    assert row["last_step"] >= 1 and "Traceback" not in row["shown"]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["INT", "TERM", "HUP", "ctrl-c", "ctrl-c twice", "hung up twice"])
def test_it_says_how_to_go_on(ended: Any, case: str) -> None:
    assert "sparring resume r1" in ended[case]["shown"].replace("\r\n", " ")


@pytest.mark.slow
def test_under_nohup_a_run_outlives_its_terminal(ended: Any) -> None:
    row = ended["closed under nohup"]
    assert (row["code"], row["status"], row["last_step"], row["wrong"]) == (0, "done", 4, []), row


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ctrl-c", "ctrl-c twice"])
def test_the_terminal_is_as_it_was(ended: Any, case: str) -> None:
    """The cursor is shown, and what is typed is echoed."""
    assert ended[case]["same"] and ended[case]["cursor"]
    assert "\x1b[?25l" in ended[case]["shown"]  # it was hidden meanwhile


@pytest.fixture
def hangup() -> Iterator[None]:
    """Whatever these tests are started under, SIGHUP means the end here."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_the_second_signal_is_immediate() -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), Stop(said.append) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked() and len(said) == 1
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("hangup")
def test_a_terminal_that_closes_may_say_so_twice() -> None:
    with Stop(lambda line: None) as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert stop.asked() and stop.exit_code == 129


@pytest.mark.usefixtures("hangup")
def test_under_nohup_nothing_is_asked() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Stop(lambda line: None) as stop:
        signal.raise_signal(signal.SIGHUP)
        stop.unheard(BrokenPipeError(32, "gone"))
        assert not stop.asked() and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.slow
def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stop(lambda line: None):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.usefixtures("hangup")
def test_output_to_a_full_disk_stops_with_the_code_of_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with open("/dev/full", "w") as full, Stop(said.append) as stop:
        monkeypatch.setattr(sys, "stdout", full)
        with steady(stop.unheard):
            print("a line", flush=True)
            print("another", flush=True)
            assert stop.asked() and stop.exit_code == 75
    assert len(said) == 1 and "No space left" in said[0]


@pytest.mark.slow
def test_output_that_works_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    with Stop() as stop, steady(stop.unheard):
        print("a line")
    assert shown.getvalue() == "a line\n" and not stop.asked() and sys.stdout is shown
