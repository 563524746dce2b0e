"""What a student does: check a copy, take a hint, have it watched, hunt a bug, see the solution.

`grading` and `live` may import it; it imports `measure`, `sandbox` and what is below. Entry:
`check` of `check`.
"""
