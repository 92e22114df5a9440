"""From a request to what it may do: request -> token -> grants.

In: headers, query, cookies. Out: `grants.Grants`, or the problem that says why there are none.
Start with `authorization`; `keys` verifies, `grants` reads the claims of either generation.
"""
