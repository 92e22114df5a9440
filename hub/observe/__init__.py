"""What an operator sees: numbers, lines, reasons.

In: what happened, counted and told where it happens. Out: metrics for Prometheus, the log, `stats`.
Start with `counts` for the numbers; `metrics` writes them, `refusals` tells why somebody was refused, `logs` formats.
"""
