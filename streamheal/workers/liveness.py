"""Whether processes can run, and whether they die: told apart from being slow.

stopped (SIGSTOP)     its time stands still; said once, and continued
again and again       replaced, and nobody is blamed
killed, and not dead  in a call that nothing interrupts: said, and its place is given away
"""

from __future__ import annotations

from collections.abc import Iterable

from streamheal.workers.port import Log
from streamheal.workers.process import Process

# Looks at which a process was found stopped, although it had been continued: half a second of it.
_STOPS_MAX = 10
# A record that stops its own process must not have it replaced for ever: beyond so many within the
# time, such a death is one like any other.
_EXCUSED_MAX, _EXCUSED_S = 2, 600.0
# SIGKILL works at once but in a call that nothing interrupts; a large process is taken apart in a second.
_DIES_S_MAX = 3.0


class Liveness:
    """Keeps the time that each process could run, as `Process.awake_s`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._excused: list[float] = []

    def look(self, processes: Iterable[Process], step_s: float, now: float) -> None:
        for process in list(processes):
            if process.doomed is not None:
                self._look_at_doomed(process, step_s)
                continue
            state = process.status.state
            if state == "T":
                self._stopped(process, now)
            elif state != "t":
                process.awake_s += step_s

    def _stopped(self, process: Process, now: float) -> None:
        process.stops += 1
        if process.stops == 1:
            self._log.warning("worker_stopped", worker=process.name, pid=process.pid)
        if process.stops <= _STOPS_MAX:
            process.resume()
            return
        self._excused = [at for at in self._excused if at > now - _EXCUSED_S]
        excused = len(self._excused) < _EXCUSED_MAX
        self._excused.append(now)
        process.kill("stopped" if excused else "stopped again")

    def _look_at_doomed(self, process: Process, step_s: float) -> None:
        process.dying_s += step_s
        if process.dying_s > _DIES_S_MAX:
            process.kill("stuck")
            self._log.warning("worker_stuck", worker=process.name, pid=process.pid, state=process.status.state)
            process.bury()
