"""What scripts/check_server.py and scripts/soak_server.py share: `llmrun serve` as a process, and clients for it."""
import asyncio
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMO = ["--model", "datasets/demo/model", "--dtype", "float32", "--served-model-name", "demo"]


class Server:
    """`llmrun serve` on a free port."""

    def __init__(self, program, *flags, max_files=None, step_ms=None):
        flags = [*DEMO, *flags, *(["--null-engine", str(step_ms)] if step_ms is not None else [])]
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))) if max_files else None
        self.process = subprocess.Popen([program, "serve", "--port", "0", *flags], stderr=subprocess.PIPE, text=True,
                                        cwd=ROOT, preexec_fn=limit)
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            if match := re.search(r"serving \S+ on http://[^:]+:(\d+)", line):
                self.port = int(match[1])
                threading.Thread(target=self._drain, daemon=True).start()
                break
        else:
            raise SystemExit(f"the server did not start: {''.join(self.log)}")
        self.files_at_start = self.files()

    def _drain(self):
        for line in self.process.stderr:
            self.log = [*self.log[-99:], line]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def status(self, name):
        """A size of /proc/PID/status in MiB."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name):
        text = ask(self.port, get("/metrics"))
        return float(re.search(rf"^llmrun_{name}\{{[^}}]*\}} (\S+)", text, re.M)[1])

    def is_idle(self):
        return all(self.metric(name) == 0 for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"))

    def gives_back(self):
        """Nothing runs, no KV block is held, no descriptor is left; waits for it a while."""
        return eventually(lambda: self.is_idle() and self.files() <= self.files_at_start + 1)


# A server that has nothing else to do: what it needs to answer is what the machine takes, whoever asks.
IDLE_SERVER = """
import socket
listening = socket.create_server(('127.0.0.1', 0), backlog=64)
print(listening.getsockname()[1], flush=True)
while True:
    connection, _ = listening.accept()
    with connection:
        if connection.recv(4096):
            connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}')
"""

PROBE = """
import socket, sys, time
port, fresh = int(sys.argv[1]), sys.argv[2] == 'fresh'
ask = b'GET /health HTTP/1.1\\r\\nHost: localhost\\r\\n' + (b'Connection: close\\r\\n' if fresh else b'') + b'\\r\\n'
connection = None
while True:
    start = time.perf_counter()
    try:
        if connection is None:
            connection = socket.create_connection(('127.0.0.1', port), 10)
        connection.sendall(ask)
        answer = connection.recv(4096)
        told = answer.split(b' ', 2)[1].decode() if answer else 'closed'
    except OSError as problem:
        told, answer = type(problem).__name__, b''
    print(told, (time.perf_counter() - start) * 1e3, flush=True)
    if fresh or not answer:
        if connection: connection.close()
        connection = None
    time.sleep(0.01)
"""


class Probe(threading.Thread):
    """Asks a server every 10 ms, from a process of its own, until it is stopped."""

    def __init__(self, port, fresh):
        super().__init__(daemon=True)
        self.process = subprocess.Popen([sys.executable, "-c", PROBE, str(port), "fresh" if fresh else "kept"],
                                        stdout=subprocess.PIPE, text=True)
        self.times, self.others = [], []
        self.start()

    def run(self):
        for line in self.process.stdout:
            told, ms = line.split()
            if told == "200":
                self.times.append(float(ms))
            else:
                self.others.append(told)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.join()


class HealthProbe:
    """Asks /health, and beside it a server that has nothing else to do, and gives the times in ms."""

    def __init__(self, port, fresh):
        self.idle_server = subprocess.Popen([sys.executable, "-c", IDLE_SERVER], stdout=subprocess.PIPE, text=True)
        self.of_idle = Probe(int(self.idle_server.stdout.readline()), fresh=True)
        self.of_health = Probe(port, fresh)

    def stop(self):
        self.of_health.stop()
        self.of_idle.stop()
        self.idle_server.kill()
        self.idle_server.wait()
        times = self.of_health.times
        return {"asked": len(times), "not_200": len(self.of_health.others), "p50_ms": quantile(times, 0.5),
                "p99_ms": quantile(times, 0.99), "max_ms": quantile(times, 1),
                "idle_server_p99_ms": quantile(self.of_idle.times, 0.99)}


def quantile(values, q):
    values = sorted(values)
    return round(values[min(len(values) - 1, int(q * len(values)))], 3) if values else None


def eventually(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def get(path, close=True):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n".encode()


def post(body, path="/v1/completions", close=True):
    text = json.dumps(body)
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"{'Connection: close' + chr(13) + chr(10) if close else ''}Content-Length: {len(text)}\r\n\r\n{text}").encode()


def completion(first, count, stream=True, **more):
    return {"prompt": [first, 1], "max_tokens": count, "ignore_eos": True, "temperature": 0, "stream": stream, **more}


def expected(first, count):
    """What the engine without a model answers to completion(first, count)."""
    return "".join(f"{first + 1 + i} " for i in range(count))


def ask(port, request):
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(request)
        parts = []
        while data := connection.recv(1 << 16):
            parts.append(data)
    return b"".join(parts).decode()


def status_of(answer):
    return int(answer[9:12]) if answer.startswith("HTTP/1.1 ") else 0


def text_of(answer):
    return "".join(json.loads(text) for text in re.findall(r'"text":("(?:[^"\\]|\\.)*")', answer))


def is_whole(answer):
    return "data: [DONE]" in answer


async def connect(port, receive_bytes=None):
    connection = socket.socket()
    connection.setblocking(False)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return connection


async def read_until(connection, mark=None):
    """Until `mark` has come, or the end."""
    data = b""
    try:
        while mark is None or mark not in data:
            part = await asyncio.get_running_loop().sock_recv(connection, 1 << 16)
            if not part:
                break
            data += part
    except OSError:
        pass
    return data.decode(errors="replace")


async def ask_async(port, request, at_once=None):
    async with at_once or asyncio.Semaphore(1):
        connection = await connect(port)
        try:
            await asyncio.get_running_loop().sock_sendall(connection, request)
            return await read_until(connection)
        finally:
            connection.close()


def environment(program):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {"date_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "system": platform.platform(), "cpu": cpu[1] if cpu else platform.processor(),
            "cpus": len(os.sched_getaffinity(0)), "python": platform.python_version(),
            "llmrun": subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()}


class Findings:
    def __init__(self, counts_times, counts_memory):
        self.counts_times, self.counts_memory = counts_times, counts_memory
        self.checks = []

    def check(self, what, holds, detail="", is_time=False, is_memory=False):
        counts = (self.counts_times or not is_time) and (self.counts_memory or not is_memory)
        self.checks.append({"what": what, "holds": bool(holds), "detail": str(detail), "counts": counts})
