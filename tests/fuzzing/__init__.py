"""Readers of what strangers write, fed with bytes that reach ever more of their code.

In: bytes. Out: an exception where a reader does something that its docstring does not say. `targets` has the readers,
`corpus` what once reached code that nothing else had: every run of the tests replays it, `make fuzz` goes on from it.
"""
