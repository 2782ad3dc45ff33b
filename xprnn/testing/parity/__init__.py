"""Whether every backend computes what the reference, NumPy in float64, computes.

===============  ===============================================================================
`check`          `assert_parity`: a network and its data on all backends
`suite`          small problems for every cell, which ``xprnn parity`` runs
`problem`        a network and its data, computed on one backend after another
`functions`      every function of the standard that xprnn uses, alone, on small arrays
`reference`      what the reference computes
`comparison`     what one backend in one dtype computes, compared with the reference
`tolerances`     how large errors may be, with the reasons
`slack`          what rounding does to a problem, measured: allowed on top of the tolerances
`report`         what was found
`form`           whether an array has the right form; where an exception came from
`watch`          progress and time limit
===============  ===============================================================================
"""
