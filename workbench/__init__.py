"""The workbench: what a server is put on to be started, spoken to, measured and read.

Notebooks import from `workbench.notebook`; a terminal has `python -m workbench`.
"""
