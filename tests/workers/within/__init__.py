"""A worker's own code within this process: real runner, lanes, journal, seats; a made-up user, link, pool and core.

    world.py     the host and its only process: what may happen, chosen by dice, and what must hold meanwhile
    core.py      one shard's core, the simplest there is, which also knows what user code really did
    users.py     user code in each kind of runner, and how the runner is moved
    process.py   what a seat sees of a process, and the worker of its host; pool.py: what it sees of all others

User code asks, whenever it runs, whether the host would know who runs if the process died now.
"""
