"""The stages of the course: every module is one complete program, and stands alone."""
