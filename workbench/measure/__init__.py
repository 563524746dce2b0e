"""Every picture and every figure: who waited, how fast, how much memory, which bytes.

`practice`, `grading` and `live` may import it; it imports `server` and what is below. Entry: a
module for each measurement, with a function of its name (`timeline`, `bench`, ...); `picture` is
what they share.
"""
