"""The real hub in a world in a box: a clock, a network and stores that a seed decides, and a judge of what came of it.

In: seeds. Out: what a hub did that it must not do, with the shortest course of events that leads there. Read
`scenario` first, which says what may happen, then `judge`, which says what must not. ``docs/simulation.md`` is the
guide.
"""
