"""How pictures look and leave: a PNG for slides, and an inline SVG that follows the page's colours.

Matplotlib is imported late (it is slow to import) and used without pyplot, which keeps global state.
"""

import contextlib
import io
import re
import warnings

from research.html.markup import printable, text

COLOURS = ("#2a7fc9", "#e07b00", "#1f9d6b", "#c2559d", "#8a6fd1", "#8c8c1f")  # readable on white and on black
INK, FAINT = "#010203", "#d1d2d3"  # unlikely colours, so that the SVG can have the page's own in their place

STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.5,
    "grid.color": FAINT, "legend.frameon": False, "legend.fontsize": 8,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.titlecolor": INK, "axes.unicode_minus": False,
    "text.parse_math": False,  # a class may be called "$x"
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "research",  # the same picture gives the same bytes
}  # fmt: skip


@contextlib.contextmanager
def style():
    """Within it, new figures look like ours, and characters that the font lacks are no warning."""
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def new_figure(width: float, height: float, *, rows: int = 1, columns: int = 1):
    """(Figure, flat list of rows x columns axes), in inches, laid out so that nothing is clipped."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The solver takes a third of a second; a single plot needs none, since it is cut to what is drawn.
    figure = Figure(figsize=(width, height), layout="constrained" if rows * columns > 1 else None)
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def write_png(figure, path):
    """Writes the picture on white, without the date or the software in it."""
    _settle(figure)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None}, **_cut(figure))


def inline_svg(figure, *, label: str) -> str:
    """The figure as an <svg> element that scales, takes its ink from CSS `color` and fetches nothing."""
    _settle(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, **_cut(figure))
    svg = printable(buffer.getvalue())
    svg = svg[svg.index("<svg ") :]
    # The metadata hold the date, and with it no two pages would be the same.
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)[1]
    pixels = float(box.split()[2]) * 4 / 3
    # Only what is referred to keeps its id: a page has many figures, and ids are unique in it.
    used = set(re.findall(r"url\(#([^)]+)\)", rest)) | set(re.findall(r'href="#([^"]+)"', rest))
    rest = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", rest)
    rest = rest.replace(INK, "currentColor").replace(FAINT, "var(--line)")
    return f'<svg viewBox="{box}" role="img" aria-label="{text(label)}" style="width:{pixels:.0f}px">{rest.strip()}'


def _settle(figure):
    """Lays the figure out once: the layout takes most of the time, and would be done again at each saving."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _cut(figure) -> dict:
    """How a figure of one plot is saved so that nothing is clipped."""
    return {"bbox_inches": "tight", "pad_inches": 0.04} if len(figure.axes) == 1 else {}


def value_axis(ax, metric, values):
    """A logarithmic axis for a loss that falls far; `values` are the finite ones of the plot."""
    if "loss" in metric and min(values) > 0 and max(values) > 30 * min(values):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")  # the default writes formulas
        ax.yaxis.set_minor_formatter("")


def step_axis(ax):
    """Whole steps, few enough to be read, with thousands as 10k."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    def written(step, _):
        for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(step) >= 10 * size or (abs(step) >= size and step % (size / 10) == 0):
                return f"{step / size:g}{unit}"
        return f"{step:g}"

    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(written))
