"""`streamheal demo`: a shop's orders, thirteen of them sick, and what is said at the end.

`orders.py` is the processor, written as a user would write it: to every part of streamheal it
is the user's code, and its frames are told as such.
"""
