"""Pictures of gradients and states, one function each.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; lines differ in dashes
and markers, too, and colour maps get steadily lighter.  So all can be read in black and white.
"""
