"""What a transfer costs: time, CPU, memory and disk traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import os
import resource
import time

import psutil

from tests.bench import results


def _status_mib(process: psutil.Process, field: str) -> float:
    """Return a memory figure of ``/proc/PID/status`` in MiB."""
    with open(f'/proc/{process.pid}/status', encoding='ascii',
              errors='replace') as status:
        for line in status:
            if line.startswith(field + ':'):
                return int(line.split()[1]) / 1024
    raise ValueError(f'/proc/{process.pid}/status has no {field}')


def resident_mib(processes: Sequence[psutil.Process]) -> float:
    """Return the resident memory of some processes in MiB."""
    return sum(_status_mib(process, 'VmRSS') for process in processes)


def _forget_peak(process: psutil.Process) -> bool:
    """Let the kernel begin to count a process's peak memory anew.

    The kernel's own high-water mark misses nothing, as sampling would.
    Returns False where the kernel has no such switch.
    """
    try:
        with open(f'/proc/{process.pid}/clear_refs', 'wb') as clear_refs:
            clear_refs.write(b'5')
    except (FileNotFoundError, PermissionError):
        return False
    return True


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time, user and system, of one process."""
    if process.pid == os.getpid():
        # Exact; what psutil reads counts in hundredths of a second.
        return time.process_time()
    times = process.cpu_times()
    return float(times.user + times.system)


def _disk_bytes(processes: Sequence[psutil.Process]) -> tuple[int, int]:
    """Return the bytes that some processes read from and sent to disks."""
    counters = [process.io_counters() for process in processes]
    return (sum(counter.read_bytes for counter in counters),
            sum(counter.write_bytes for counter in counters))


def machine_cpu_seconds() -> float:
    """Return the CPU time of all that runs on this machine."""
    times = psutil.cpu_times()
    # Time that a hypervisor gave to others is lost to us just the same.
    return float(sum(times) - times.idle - times.iowait - times.guest
                 - times.guest_nice)


def measure(work: Callable[[], int], processes: Sequence[psutil.Process],
            idle_mib: float) -> results.Sample:
    """Measure some processes while a function runs.

    :param work: makes them work; returns the size of what was transferred
    :param processes: those that do the work; none comes or goes meanwhile
    :param idle_mib: their resident memory when they have nothing to do
    """
    # All of them, not only until the first that cannot.
    counted = all([_forget_peak(process) for process in processes])
    read, written = _disk_bytes(processes)
    machine = machine_cpu_seconds()
    cpu = sum(map(_cpu_seconds, processes))
    own_cpu = time.process_time()
    began = time.perf_counter()
    size = work()
    seconds = time.perf_counter() - began
    own_cpu = time.process_time() - own_cpu
    cpu = sum(map(_cpu_seconds, processes)) - cpu
    machine = machine_cpu_seconds() - machine
    peak = sum(_status_mib(process, 'VmHWM') for process in processes)
    read_after, written_after = _disk_bytes(processes)
    client = (None if psutil.Process() in processes else own_cpu)
    return results.Sample(
        size=size, seconds=seconds, cpu_seconds=cpu,
        client_cpu_seconds=client, idle_mib=idle_mib,
        other_cpu_seconds=max(0.0, machine - cpu - (client or 0)),
        peak_mib=peak - idle_mib if counted else None,
        disk_read=read_after - read, disk_written=written_after - written)


def _own_cpu_seconds() -> float:
    """Return the CPU time of this process and of its ended children."""
    usages = [resource.getrusage(who) for who in
              (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure_here(work: Callable[[], int]) -> results.Sample:
    """Measure what this process does, and programs that it runs.

    :param work: returns the size of what was transferred
    """
    machine = machine_cpu_seconds()
    cpu = _own_cpu_seconds()
    began = time.perf_counter()
    size = work()
    seconds = time.perf_counter() - began
    cpu = _own_cpu_seconds() - cpu
    machine = machine_cpu_seconds() - machine
    return results.Sample(size, seconds, cpu,
                          other_cpu_seconds=max(0.0, machine - cpu))
