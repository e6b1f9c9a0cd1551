"""Progress bars on terminals and in logs."""

import io
import sys

from paper_repro import progress


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def test_a_bar_in_a_log_is_a_few_whole_lines(monkeypatch):
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(total=5000, desc="sweep", unit="epoch") as bar:
        for i in range(5000):
            bar.set_postfix_str(str(i), refresh=False)
            bar.update()
    text = stream.getvalue()
    assert "\r" not in text and text.endswith("\n")
    assert 2 <= len(text.splitlines()) <= 3 and "5000/5000" in text.splitlines()[-1]
    assert all(line.startswith("sweep: ") for line in text.splitlines())


def test_a_bar_in_a_log_reports_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "_LOG_INTERVAL", 0.0)
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(total=30) as bar:
        for _ in range(30):
            bar.update()
    assert len(stream.getvalue().splitlines()) >= 30


def test_a_bar_on_a_terminal_moves(monkeypatch):
    stream = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(total=3) as bar:
        bar.update(3)
    assert "\r" in stream.getvalue()
