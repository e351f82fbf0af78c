"""Matplotlib figures: their style, and export as PNG for slides and as inline SVG in the colours of the page.

Matplotlib is imported inside functions because it is slow to import. pyplot is not used because it has global state.
"""

import contextlib
import io
import re
import warnings

import numpy as np

from research.errors import printable
from research.html.markup import text

COLOURS = ("#2a7fc9", "#e07b00", "#1f9d6b", "#c2559d", "#8a6fd1", "#8c8c1f")  # legible on white and on black
INK, FAINT, PAPER = (
    "#010203",
    "#d1d2d3",
    "#fdfefe",
)  # unusual colours, which `inline_svg` replaces by the colours of the page

STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.5,
    "grid.color": FAINT, "legend.frameon": False, "legend.fontsize": 8,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.titlecolor": INK, "axes.unicode_minus": False,
    "text.parse_math": False,  # a class name may contain a $
    "svg.fonttype": "none",  # write text, not glyph outlines
    "svg.hashsalt": "research",  # make the output deterministic
}  # fmt: skip


@contextlib.contextmanager
def style():
    """Apply the style of the pages to figures created in this context, and silence warnings about missing glyphs."""
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def new_figure(width: float, height: float, *, rows: int = 1, columns: int = 1):
    """Return (Figure, flat list of rows x columns axes), laid out without clipping. Sizes are in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The layout solver needs a third of a second. A single plot does not need it: its image is cropped when saved.
    figure = Figure(figsize=(width, height), layout="constrained" if rows * columns > 1 else None)
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def new_plot(*, height: float = 2.9, legend_rows: int = 1):
    """Return (Figure, axes) of one plot, whose frame has the same place in every figure of this height and legend."""
    figure, (ax,) = new_figure(4.4, height + 0.18 * (legend_rows - 1))
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.62 / 4.4, right=0.97, bottom=0.5 / height, top=1 - (0.32 + 0.18 * legend_rows) / height
    )
    return figure, ax


def write_png(figure, path):
    """Write the figure as a PNG on white, without a date or software version in its metadata."""
    _fix_layout(figure)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None}, **_crop_options(figure))


def inline_svg(figure, *, label: str, values=None) -> str:
    """Return the figure as a scalable <svg> element that takes its text colour from CSS and loads nothing.

    `values`, a sequence of (x, y, text), shows each text when the pointer is over its point. A figure with `values` is
    not cropped, so that figures from `new_plot` have equal frames.
    """
    _fix_layout(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, **({} if values is not None else _crop_options(figure)))
    svg = printable(buffer.getvalue())
    svg = svg[svg.index("<svg ") :]
    # The metadata contain the date, which would make every page different.
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)[1]
    pixels = float(box.split()[2]) * 4 / 3
    # Ids must be unique on a page with many figures: remove those without a reference.
    used = set(re.findall(r"url\(#([^)]+)\)", rest)) | set(re.findall(r'href="#([^"]+)"', rest))
    rest = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", rest)
    rest = rest.replace(INK, "currentColor").replace(FAINT, "var(--line)").replace(PAPER, "var(--paper)")
    rest = rest.strip().removesuffix("</svg>") + _hover(figure, values or ()) + "</svg>"
    return f'<svg viewBox="{box}" role="img" aria-label="{text(label)}" style="width:{pixels:.0f}px">{rest}'


def _hover(figure, values) -> str:
    """Return transparent circles with a title, in points from the top left; browsers show titles without a script."""
    ax, scale, height = figure.axes[0], 72 / figure.dpi, figure.get_figheight() * 72
    circles = []
    for x, y, words in values:
        left, bottom = ax.transData.transform((x, y))
        if ax.bbox.contains(left, bottom):
            place = f'cx="{left * scale:.1f}" cy="{height - bottom * scale:.1f}" r="5"'
            circles.append(f'<circle {place} fill="transparent"><title>{text(words)}</title></circle>')
    return "".join(circles)


def _fix_layout(figure):
    """Compute the layout once: it takes most of the time, and each save would compute it again."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _crop_options(figure) -> dict:
    """Return the `savefig` options that crop a figure of one plot to its content, without clipping."""
    return {"bbox_inches": "tight", "pad_inches": 0.04} if len(figure.axes) == 1 else {}


def value_axis(ax, metric, steps, values):
    """Scale the y axis so that differences late in a run are visible. `steps` and `values` are of all finite points.

    A loss that spans a factor of more than 30 gets a logarithmic axis. Otherwise, if the values after the first tenth
    of the steps span less than half of the range, the axis shows that span; earlier values may be off the axis.
    """
    steps, values = np.asarray(steps), np.asarray(values)
    if "loss" in metric and min(values) > 0 and max(values) > 30 * min(values):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")  # the default formatter writes mathtext, which is not parsed here
        ax.yaxis.set_minor_formatter("")
        return
    settled = values[steps > steps.max() / 10] if steps.size else values
    if len(settled) > 1 and 0 < np.ptp(settled) < 0.5 * np.ptp(values):
        margin = 0.05 * np.ptp(settled)
        ax.set_ylim(settled.min() - margin, settled.max() + margin)


def step_axis(ax):
    """Format the x axis as steps: at most six integer intervals, with thousands written as 10k."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    def format_step(step, _):
        for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(step) >= 10 * size or (abs(step) >= size and step % (size / 10) == 0):
                return f"{step / size:g}{unit}"
        return f"{step:g}"

    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(format_step))
