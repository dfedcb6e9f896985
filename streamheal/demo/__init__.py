"""`streamheal demo`: a shop's orders, thirteen of them sick, and what is said at the end.

`orders.py` is the processor, written as a user would write it; the demo copies it into its folder
and runs it from there, so that it is the user's code to every part of streamheal.
"""
