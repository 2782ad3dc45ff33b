"""Every function of the array API standard that xprnn uses, alone, on small arrays.

When a network disagrees, this tells which function of the namespace is wrong, for which input.
"""

from xprnn.testing.parity.functions.calls import CALLS
from xprnn.testing.parity.functions.check import FunctionReport, check_functions

__all__ = ["CALLS", "FunctionReport", "check_functions"]
