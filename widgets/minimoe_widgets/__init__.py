"""minimoe_widgets: explorers of the reader's own model. They draw what `minimoe` computes and compute nothing
themselves."""

from minimoe_widgets.balance import BalanceExplorer
from minimoe_widgets.compression import CompressionExplorer
from minimoe_widgets.context import ContextExplorer
from minimoe_widgets.explorers import Explorers
from minimoe_widgets.fp8 import FP8Explorer
from minimoe_widgets.grouped import GroupedExplorer
from minimoe_widgets.kernel_stepper import KernelStepper
from minimoe_widgets.kernel_timings import KernelTimings
from minimoe_widgets.refusal import RefusalExplorer
from minimoe_widgets.rollout import RolloutExplorer
from minimoe_widgets.routing import RoutingExplorer
from minimoe_widgets.speculation import SpeculationExplorer

__all__ = ["BalanceExplorer", "CompressionExplorer", "ContextExplorer", "Explorers", "RoutingExplorer"]
__all__ += ["GroupedExplorer", "KernelStepper", "RefusalExplorer", "RolloutExplorer", "SpeculationExplorer"]
__all__ += ["FP8Explorer", "KernelTimings"]
