"""What the scripts that measure llmrun share: where they run it, and what a result says of the machine."""
import datetime
import os
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def relative_program(path):
    """The program as a command line in a report names it: relative to ROOT, where it is started, so that no folder of this
    machine stands there."""
    try:
        return str(pathlib.Path(path).resolve().relative_to(ROOT))
    except ValueError:
        return path


def read_output(command):
    """Standard output of a short command, or "" where it cannot run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def gpus():
    fields = ["name", "driver_version", "power.limit", "power.default_limit", "memory.total", "clocks.max.sm", "clocks.max.memory",
              "pcie.link.gen.current", "pcie.link.width.current", "persistence_mode", "mig.mode.current", "compute_mode", "ecc.mode.current"]
    lines = read_output(["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader"]).splitlines()
    return [dict(zip(fields, (value.strip() for value in line.split(",")))) for line in lines]


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def memory_bytes():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def environment(llmrun):
    """The record that lies beside results as environment.json."""
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "gpus": gpus(),
            "processor": processor(),
            "cpus": len(os.sched_getaffinity(0)),
            "memory_bytes": memory_bytes(),
            "kernel": platform.release(),
            "llmrun": read_output([llmrun, "--version"]),
            "variables": {name: value for name, value in sorted(os.environ.items())
                          if name.startswith(("LLMRUN_", "CUDA_VISIBLE", "CUDA_DEVICE", "OMP_"))}}
