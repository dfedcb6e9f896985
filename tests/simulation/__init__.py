"""A small made-up world around the core, and an oracle that knows the truth in it.

    python -m tests.simulation 0 1000      a thousand worlds
    python -m tests.simulation show 417    one of them, shrunk if it fails, told line by line

A world is a pure function of its seed. Each step picks one of the things that can happen now:
a message is read, a lane starts a record, a record takes effect, a mark is written, an
acknowledgement comes back; a process or the host dies in between.

    generate.py   what a seed stands for
    lanes.py      the worker's side of a shard
    side.py       one shard: engine, store, cells; carries out what the core decides
    world.py      time, processes, and what running does
    oracle.py     what truly happened, and what must never
    shrink.py     the smallest world that fails in the same way
"""
