"""Which colour does each layer have, the same in every figure?"""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib import colormaps
from matplotlib.colors import Colormap, ListedColormap, Normalize

Colour = tuple[float, float, float, float]

GREY = "0.75"
"""What is drawn for comparison."""
INK = "0.15"
"""What is drawn where depth plays no part."""
GOOD, BAD, ODD = "#0072B2", "#D55E00", "#E69F00"
"""Blue, vermilion and orange of Okabe and Ito, which colour-blind readers tell apart."""
SERIES = (INK, GOOD, BAD, "#009E73")
"""For the few lines that are no layers."""

_LIGHTEST = 0.85  # the end of viridis is too pale for lines on white


def depth_map() -> Colormap:
    """Give the colours by depth: dark for the first layer, light for the last, in order for every kind of eye."""
    shades = colormaps["viridis"]
    return ListedColormap([shades(_LIGHTEST * at / 255) for at in range(256)], name="depth")


def depth_scale(layers: Iterable[int]) -> Normalize:
    """Spread the layers of a run, the first at 0, over the colours."""
    return Normalize(0, max([1, *layers]))


def layer_colours(layers: Iterable[int]) -> dict[int, Colour]:
    """Give each layer its colour; what stands outside blocks (-1) is not among them."""
    listed = [layer for layer in layers if layer >= 0]
    shades, scale = depth_map(), depth_scale(listed)
    return {layer: shades(float(scale(layer))) for layer in listed}
