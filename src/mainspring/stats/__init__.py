"""Floor 1: arrays in, numbers out; no I/O, no clock, random only by a seed that is passed in.

Import the noun you need (`mainspring.stats.profile`, `.auc`, ...): the room itself loads nothing,
so that whoever only reads profiles never pays for SciPy.
"""
