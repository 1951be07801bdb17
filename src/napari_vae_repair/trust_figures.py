"""Drawings of a trust report into Axes of Matplotlib, for the page and for the tab alike; nothing here uses pyplot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_vae_repair.trust import Plots
from napari_vae_repair.trust_measures import BLOCK_PX, LAGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINT, DIVERGING = "tab:orange", "RdBu_r"
SHOWN_ERRORS = 6.0  # standard errors at the ends of the map's colours
ROOM = 1.3
LEAST_SHOWN = 0.1  # correlation at the ends of the colours, at least: noise must not look like structure


def draw_scatter(axes: Axes, plots: Plots, colour: str) -> None:
    """Variance over brightness: the image's flat parts as points, the noise model as a line.

    Parameters
    ----------
    axes : matplotlib Axes
        To draw into.
    plots : Plots
        Of one channel.
    colour : str
        Of text and lines, such as "black" or "#f0f1f2".
    """
    seen = plots.scatter
    axes.plot(seen.mean, seen.variance, "o", color=POINT, markersize=5, label="flat parts of the image")
    if plots.noise is not None and seen.mean.size:
        # beyond the points too, so that a single level has a line
        span = float(np.ptp(seen.mean)) or abs(float(seen.mean[0])) or 1.0
        level = np.linspace(seen.mean.min() - 0.05 * span, seen.mean.max() + 0.05 * span, 50)
        axes.plot(level, plots.noise.variance(level), "-", color=colour, label="noise model")
    axes.set_ylim(0, ROOM * axes.get_ylim()[1])  # the legend stands above
    axes.ticklabel_format(style="sci", scilimits=(-3, 4))
    _titled(axes, plots, "Variance over brightness", colour)
    axes.set_xlabel("brightness", color=colour)
    axes.set_ylabel("variance", color=colour)
    axes.legend(loc="upper left", fontsize="small", frameon=False, labelcolor=colour)


def draw_correlation(axes: Axes, plots: Plots, colour: str) -> None:
    """Autocorrelation of the residual at lags up to 8 pixels, less what the noise model expects.

    Parameters
    ----------
    axes, plots, colour
        As `draw_scatter`.
    """
    beyond = plots.correlation - plots.expected
    beyond[LAGS, LAGS] = 0.0
    most = max(LEAST_SHOWN, float(np.nanmax(np.abs(beyond), initial=0.0)))
    reach = LAGS + 0.5
    picture = axes.imshow(
        beyond, cmap=DIVERGING, vmin=-most, vmax=most, extent=(-reach, reach, reach, -reach), interpolation="nearest"
    )
    _titled(axes, plots, "Residual: correlation\nless the noise's", colour)
    axes.set_xticks(range(-LAGS, LAGS + 1, 4))
    axes.set_yticks(range(-LAGS, LAGS + 1, 4))
    axes.set_xlabel("lag along x (px)", color=colour)
    axes.set_ylabel("lag along y (px)", color=colour)
    _colour_bar(axes, picture, "correlation", colour)


def draw_structure(axes: Axes, plots: Plots, colour: str) -> None:
    """Mean residual of each block in standard errors; white = as noise alone, grey = not measured.

    Parameters
    ----------
    axes, plots, colour
        As `draw_scatter`.
    """
    rows, columns = plots.structure.shape
    axes.set_facecolor("0.6")
    if plots.structure.size:
        picture = axes.imshow(
            plots.structure,
            cmap=DIVERGING,
            vmin=-SHOWN_ERRORS,
            vmax=SHOWN_ERRORS,
            extent=(0, columns * BLOCK_PX, rows * BLOCK_PX, 0),
            interpolation="nearest",
        )
        _colour_bar(axes, picture, "standard errors", colour)
    _titled(axes, plots, "Residual: structure", colour)
    axes.set_xlabel("x (px)", color=colour)
    axes.set_ylabel("y (px)", color=colour)


def draw_plane(axes: Axes, plane: NDArray[np.float32], title: str, colour: str, *, signed: bool = False) -> None:
    """A plane ``(Y, X)`` or ``(Y, X, 3)`` between its 0.5 and 99.5 percentiles; signed values in a diverging map.

    Parameters
    ----------
    axes, colour
        As `draw_scatter`.
    plane : ndarray of float32
        Not empty.
    title : str
        Above it.
    signed : bool
        Whether 0 is the middle; for planes without colours.
    """
    low, high = (float(value) for value in np.percentile(plane, [0.5, 99.5]))
    if signed:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    high = high if high > low else low + 1.0
    if plane.ndim == 3:
        axes.imshow(np.clip((plane - low) / (high - low), 0, 1), interpolation="nearest")
    else:
        picture = axes.imshow(plane, cmap=DIVERGING if signed else "gray", vmin=low, vmax=high, interpolation="nearest")
        _colour_bar(axes, picture, "", colour)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, color=colour, fontsize="medium")


def _titled(axes: Axes, plots: Plots, title: str, colour: str) -> None:
    axes.set_title(f"{title}{', ' if plots.label else ''}{plots.label}", color=colour, fontsize="medium")
    axes.tick_params(colors=colour, labelsize="small")
    for spine in axes.spines.values():
        spine.set_color(colour)


def _colour_bar(axes: Axes, picture: object, label: str, colour: str) -> None:
    bar = axes.figure.colorbar(picture, ax=axes, shrink=0.8)  # type: ignore[arg-type]
    bar.set_label(label, color=colour, fontsize="small")
    bar.ax.tick_params(colors=colour, labelsize="small")
