"""Grading forks: the result, the engine, submissions, a class as a batch, reports, the gradebook.

Only the command line may import it; it imports `practice` and what is below. Entry: `grade` of
`grade`, `mark_class` of `batch`.
"""
