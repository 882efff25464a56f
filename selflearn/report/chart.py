"""Charts are drawn by matplotlib, which not every installation has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selflearn.errors import SettingsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SettingsError(
            "charts need matplotlib, which is not installed", "pip install matplotlib (the extra `report` brings it)"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")
