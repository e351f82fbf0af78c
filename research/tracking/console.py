"""Progress of a run: a live line on a terminal, a few plain lines elsewhere."""

import collections
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

from research.errors import printable
from research.events import Ended, Evaluated, Interval, Message, Saved, Started
from research.files import TolerantStream

RECENT = 5  # intervals in the average of the rate
QUIET_SECONDS, QUIET_LINES = 2.0, 20  # without a terminal: minimum time between lines, approximate lines per run
SAMPLE_LINES, SAMPLE_WIDTH = 8, 100
BARS = (24, 16, 8)  # widths of the progress bar, in columns


class Shown(NamedTuple):
    """The contents of the live line. `rate` is in steps per second, `wait` the fraction of time; None if unknown."""

    label: str
    step: int
    total: int
    compiling: bool
    metrics: Mapping[str, float]
    rate: float | None
    wait: float | None


def console(*, stream, label: str = "", texts: bool = True):
    """Return a subscriber to `research.events` that shows progress on `stream`.

    On a terminal, a line with a progress bar is redrawn a few times per second; evaluations, messages and checkpoints
    are written above it. Elsewhere a run prints about twenty lines. `Ended` erases the line and restores the terminal,
    so that the caller can print the result. The caller must send `Ended` after a failure or Ctrl-C, too. The cursor
    stays visible, so that even a killed process leaves a usable terminal. A write error on `stream` does not stop the
    run. Without `texts`, the texts of evaluations are not shown.
    """
    stream = TolerantStream(stream)
    texts_of = format_texts if texts else lambda _: []
    if stream.isatty():
        import rich.console

        screen = rich.console.Console(file=TolerantStream(stream, controls=True), force_terminal=True)
        if not screen.is_dumb_terminal:
            return _live(screen, label, texts_of)
    return _plain(stream, texts_of)


def numbers(values: Mapping[str, float]) -> str:
    """Format metrics as `loss 0.2134  accuracy 0.9701`."""
    # A metric's name is no output of the user: also its colours are replaced.
    return "  ".join(f"{printable(name)} {_number(value)}" for name, value in values.items())


def live_line(shown: Shown, width: int) -> str:
    """Format the live line in at most `width` columns: less important parts are dropped, then the bar shrinks."""
    done = f"{shown.step}/{shown.total}"
    left = None if not shown.rate else max(shown.total - shown.step, 0) / shown.rate

    def metric(name, label):
        return numbers({label: shown.metrics[name]}) if name in shown.metrics else ""

    parts = [  # (text, drop order: the largest is dropped first), from left to right
        (shown.label, 6),
        (done, 0),
        ("compiling" if shown.compiling else "", 1),
        (metric("loss", "loss"), 1),
        (metric("accuracy", "accuracy"), 7),
        (metric("learning_rate", "lr"), 5),
        (f"{_rounded(shown.rate)} steps/s" if shown.rate else "", 3),
        (f"data {100 * shown.wait:.0f} %" if shown.wait is not None else "", 4),
        (f"ETA {_clock(left)}" if left is not None else "", 2),
    ]
    parts = [part for part in parts if part[0]]
    while len(_spaced(parts)) + 2 + BARS[-1] > width and len(parts) > 1:
        parts.remove(max(parts, key=lambda part: part[1]))
    # A few fixed sizes, because otherwise the bar would change its width with every digit next to it.
    room = next((size for size in BARS if len(_spaced(parts)) + 2 + size <= width), 0)
    if room:
        full = min(room, room * shown.step // max(shown.total, 1))
        at = [order for _, order in parts].index(0)
        parts.insert(at, ("━" * full + "─" * (room - full), 0))
    return _spaced(parts)[:width]


def _spaced(parts) -> str:
    return "  ".join(text for text, _ in parts)


def _live(screen, label, texts_of):
    from rich.live import Live
    from rich.text import Text

    recent = collections.deque(maxlen=RECENT)
    position, total, metrics, intervals = (lambda: 0), 0, {}, 0

    def line():
        seconds = sum(timing["seconds"] for timing in recent)
        rate = sum(timing["steps_per_second"] * timing["seconds"] for timing in recent) / seconds if seconds else None
        wait = sum(timing["data_wait"] * timing["seconds"] for timing in recent) / seconds if seconds else None
        shown = Shown(label, int(position()), total, intervals == 0, metrics, rate, wait)
        words = Text(printable(live_line(shown, screen.width - 1)), no_wrap=True, overflow="crop")
        words.highlight_regex("━+", "cyan")
        words.highlight_regex("─+", "dim")
        return words

    # Other output to the terminal would break the line, so rich redirects it. Output to a file is left alone.
    bar = Live(
        get_renderable=line, console=screen, refresh_per_second=5, transient=True,
        redirect_stdout=sys.stdout.isatty(), redirect_stderr=sys.stderr.isatty(),
    )  # fmt: skip

    def print_line(words, style=""):
        screen.print(Text(printable(words), style=style), highlight=False, soft_wrap=True)

    def listen(event):
        nonlocal position, total, metrics, intervals
        match event:
            case Started():
                position, total = event.position, event.total
                if not bar.is_started:
                    bar.start()
                    screen.show_cursor(True)  # rich hides it
                    bar.refresh()
            case Interval():
                metrics, intervals = event.metrics, intervals + 1
                if intervals > 1:  # the first one compiled
                    recent.append(event.timing)
            case Evaluated():
                print_line(_evaluated(event), style="bold")
                for words in texts_of(event.results.texts):
                    print_line(words)
            case Saved():
                print_line(f"step {event.step}  saved", style="dim")
            case Message():
                print_line(event.text, style="yellow")
            case Ended():
                bar.stop()

    return listen


def _plain(stream, texts_of):
    total, last_time, last_step, pending, intervals = 0, None, 0, None, 0

    def print_line(words):
        stream.write(words + "\n")
        stream.flush()

    def print_interval(event):
        nonlocal last_time, last_step, pending
        print_line(_interval(event, total, compiled=intervals == 1))
        last_time, last_step, pending = time.monotonic(), event.step, None

    def listen(event):
        nonlocal total, pending, intervals, last_step
        match event:
            case Started():
                total, last_step = event.total, event.step
                print_line(f"step {event.step}/{total}  {'compiling' if not intervals else 'resuming'}")
            case Interval():
                intervals, pending = intervals + 1, event
                soon = last_time is not None and time.monotonic() - last_time < QUIET_SECONDS
                near = last_time is not None and event.step - last_step < total / QUIET_LINES
                if event.step >= total or not (soon or near):
                    print_interval(event)
            case Evaluated():
                print_line("\n".join([_evaluated(event), *texts_of(event.results.texts)]))
            case Message():
                print_line(event.text)
            case Ended() if pending is not None:
                print_interval(pending)  # the last interval is always printed

    return listen


def _interval(event, total, *, compiled) -> str:
    timing = event.timing
    pace = "with compilation" if compiled else f"{_rounded(timing['steps_per_second'])} steps/s"
    words = f"step {event.step}/{total}  {numbers(event.metrics)}  {pace}  data {100 * timing['data_wait']:.0f} %"
    if not compiled and timing["steps_per_second"] > 0:
        words += f"  ETA {_clock(max(total - event.step, 0) / timing['steps_per_second'])}"
    return words


def _evaluated(event) -> str:
    return f"step {event.step}  {event.name}  {numbers(event.results.numbers)}".rstrip()


def format_texts(texts) -> list[str]:
    """Return texts {name: text} as a few indented lines, without control characters, which could steer a terminal."""
    lines = []
    for name, text in texts.items():
        sample_lines = text.rstrip().split("\n")
        lines.append(f"  {name}:")
        for line in sample_lines[:SAMPLE_LINES]:
            line = printable(line.expandtabs(4))
            lines.append("    " + (line if len(line) <= SAMPLE_WIDTH else line[: SAMPLE_WIDTH - 1] + "…"))
        if len(sample_lines) > SAMPLE_LINES:
            lines.append(f"    … {len(sample_lines) - SAMPLE_LINES} more lines")
    return lines


def _number(value) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 else f"{value:.4g}"


def _rounded(rate) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.3f}"


def _clock(seconds) -> str:
    total = round(seconds)
    hours, minutes = total // 3600, total % 3600 // 60
    return f"{hours}:{minutes:02d}:{total % 60:02d}" if hours else f"{minutes}:{total % 60:02d}"
