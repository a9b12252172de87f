"""minimoe_widgets: explorers of the reader's own model. They draw what `minimoe` computes and compute nothing
themselves."""

from minimoe_widgets.compression import CompressionExplorer
from minimoe_widgets.routing import RoutingExplorer

__all__ = ["CompressionExplorer", "RoutingExplorer"]
