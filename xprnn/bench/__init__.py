"""Comparisons of xprnn with other libraries, and with the plain code that it grew out of.

`xprnn bench` prints them.  Each side of a comparison runs in a process of its own, because the
thread pools of two libraries in one process slow each other down, and only ratios of figures from
one run are compared.

===========  ==================================================  ====================  =============
command      what is measured                                    modules               compared with
===========  ==================================================  ====================  =============
layer        seconds of one layer, forward and backward          `layer`, `timing`     torch, JAX
train        seconds of one training step                        `training`, `timing`  torch
memory       peak memory of a layer, of a training step          `memory`              torch
import       seconds of an import, bytes of the installed files  `imports`             torch, JAX
quality      losses of a whole training                          `quality`             torch
origins      seconds of one training step                        `origins`             plain NumPy
sensitivity  the smallest wrong gradient that a check finds      `sensitivity`         torch, JAX
distributed  seconds of training steps on several processes      `distributed`         torch
===========  ==================================================  ====================  =============

`process` starts the processes.  The work of the other libraries is in `peers`.
"""
