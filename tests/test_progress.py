"""What is shown while something takes time; seconds are shortened so that the tests are quick."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from headwater import progress


def wait_for(text: str, stream: io.StringIO) -> str:
    """The stream's content once `text` is in it; waits at most ten seconds."""
    end = time.monotonic() + 10
    while text not in stream.getvalue() and time.monotonic() < end:
        time.sleep(0.005)
    return stream.getvalue()


def redirect(monkeypatch: pytest.MonkeyPatch, is_terminal: bool = False) -> io.StringIO:
    """What the test writes to standard error from now on; called in the test, as pytest has its own until then."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_short_things_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = redirect(monkeypatch)
    assert list(progress.track([1, 2, 3], "counting")) == [1, 2, 3]
    assert stderr.getvalue() == ""


def test_plain_lines_tell_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = redirect(monkeypatch)
    monkeypatch.setattr(progress, "SHOW_AFTER", 0.02)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.02)
    with progress.Progress("training", 400) as bar:
        bar.advance(100, note="loss 2.5")
        assert "training: 100 of 400 (25%), about " in wait_for("left · loss 2.5\n", stderr)
        bar.advance(300)
    assert stderr.getvalue().splitlines()[-1].startswith("training: 400 of 400 in ")


def test_failure_does_not_claim_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = redirect(monkeypatch)
    monkeypatch.setattr(progress, "SHOW_AFTER", 0.0)

    def items() -> Iterator[int]:
        yield from (1, 2, 3)
        wait_for("training", stderr)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(progress.track(items(), "training", 10))
    assert "3 of 10 in" not in stderr.getvalue()


def test_what_an_earlier_attempt_did_does_not_count_for_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    bar = progress.Progress("training", 100, done=50)
    now = 110.0
    bar.advance(10)
    assert bar.line() == "training: 60 of 100 (60%), about 40 s left"
    bar.close()


def test_unknown_total_and_nothing_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    bar = progress.Progress("fetching")
    now = 103.0
    assert bar.line() == "fetching: at work, 3 s so far"
    bar.advance(1234)
    assert bar.line() == "fetching: 1,234, 3 s so far"
    bar.close()
    bar.close()


def test_terminal_gets_bars_and_news_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = redirect(monkeypatch, is_terminal=True)
    monkeypatch.setattr(progress, "SHOW_AFTER", 0.0)
    with progress.Progress("outer [x]", 10) as outer, progress.Progress("inner", 5) as inner:
        wait_for("inner", terminal)
        outer.advance(10)
        inner.advance(5, note="half [/] way")
        progress.say("news [b]here[/b]")
    shown = terminal.getvalue()
    assert "outer [x]" in shown
    assert "news [b]here[/b]" in shown
    assert progress._board._bars is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_rich_is_not_imported_until_a_bar_appears() -> None:
    program = (
        "import sys; from headwater.progress import track, say\n"
        "list(track(range(3), 'x')); say('y'); assert not any(name.startswith('rich') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
