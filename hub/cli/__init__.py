"""What a person types: one function a command, read from `commands`.

In: arguments and the environment, which nothing below reads. Out: a running server, or lines and an exit code.
Start with `commands`; `options` has the flags, `first_steps` what ``--dev`` prints, `minting` what tokens claim.
"""
