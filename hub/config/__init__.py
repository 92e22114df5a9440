"""What a hub is told before it starts.

In: flags, an environment, files. Out: one frozen `settings.Settings` and warnings, or a line that says what is wrong.
Start with `settings`; `setting` is what is said of one of them, `values` reads single values,
`go_image` the environment of the Go hub's image.
"""
