"""The course itself: its catalogue, a stage's source by name, a student's workspace, its mutants.

Everyone above may import it; it imports the ground floor alone (`errors`, `files`). Entry: `lesson`
of `catalogue`, `show` and `diff` of `source`. `catalogue` and `syntax` need the standard library
only, as `python3 -m stages` runs on a bare Python.
"""
