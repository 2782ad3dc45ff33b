"""Whether gradients are right: of a network, of a cell, of a lowered time loop.

===============  ===============================================================================
`network`        `check_gradients`: a network's gradients
`cell`           `check_cell`: a cell's backward, and its lowered time loops
`function`       `check_gradient`: any function over a namespace
`pair`           that function and its backward, called and checked for form
`culprit`        which lines of a cell's backward made what is wrong
`lowering`       a lowering's time loops against the plain loop
`independence`   whether the passes of a network leave each other's arrays alone
`batches`        whether the same call gives the same bits, and a batch in parts what it is whole
`goal`           what is differentiated: one number that depends on output and final state
`objective`      that number as a function of a network's parameters, input and state
`passes`         forward passes of a network with other arrays: complex, with tangents, in windows
`check`          gradients of any function against its numeric derivatives
`forward_mode`   exact derivatives, by forward-mode differentiation
`numeric`        central differences and the complex step
`compare`        the tolerances, with their reasons
`report`         what was found, and where to look for the fault
===============  ===============================================================================
"""
