"""Which topics a matcher selects: exact strings, URL Patterns, URI Templates. Pure.

In: matchers of requests and tokens, topics of updates. Out: yes or no, within a bounded cost.
Start with `matchers`; the other two are its languages.
"""
