"""Tools for starting, probing, watching and reading a web server, and for grading one.

Two doors lead in: notebooks import from `workbench.notebook`, a terminal has `python -m workbench`.
A package imports only what is below it: `errors` and `files`; `course` and `client`; `server`;
`measure` and `sandbox`; `practice`; `grading` and `live` (the contract in pyproject.toml).
"""
