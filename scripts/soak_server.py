#!/usr/bin/env python3
"""Keeps `llmrun serve` with the demo model busy for a while in all ways at once, and says what is left of it afterwards.

usage: soak_server.py LLMRUN [--minutes M] [--out DIR]

Streams whose texts are known, samples, clients that leave in any phase, bad requests, idle connections, and /health asked all the
while. Then: is every stream whole and right, is memory where it was, are descriptors and KV blocks given back? --out writes
DIR/soak.json and DIR/soak.md. Below 2 minutes memory is told but does not count. Exit code 1: something failed. Needs Python alone.
"""
import argparse
import asyncio
import collections
import json
import os
import pathlib
import random
import resource
import signal
import sys
import time

from server_clients import (Findings, HealthProbe, Server, ask_async, connect, environment, get, is_whole, post, read_until,
                            status_of, text_of)

NUM_QUESTIONS = 48
ALLOWED_GROWTH_MIB = 4  # from the first fifth of the time, when buffers and caches have grown to their size, to the end
MAX_TOKENS = 48


def question(i):
    return {"prompt": f"What is {i} + {i % 7}?", "max_tokens": 4 + i % MAX_TOKENS, "temperature": 0, "ignore_eos": True}


BAD = [("a body that is not JSON", post({}).replace(b"{}", b"{]"), 400),
       ("an unknown field", post({"prompt": "a", "no_such": 1}), 400),
       ("a number out of range", post({"prompt": "a", "temperature": -1}), 400),
       ("too many samples", post({"prompt": "a", "n": 1000}), 400),
       ("another model", post({"prompt": "a", "model": "none"}), 404),
       ("no such path", get("/nowhere"), 404),
       ("another host", get("/health").replace(b"localhost", b"elsewhere"), 403),
       ("two lengths", b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
       ("a chunk without a size", b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
       ("a body that is too large", b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", 413)]


class Traffic:
    """Clients of each kind, until the time is over."""

    def __init__(self, port, seconds, texts):
        self.port, self.end, self.texts = port, time.monotonic() + seconds, texts
        self.counts, self.wrong = collections.Counter(), []

    async def until_end(self, client, pause):
        while time.monotonic() < self.end:
            await client()
            await asyncio.sleep(random.uniform(0, 2 * pause))

    async def stream(self):
        i = random.randrange(NUM_QUESTIONS)
        answer = await ask_async(self.port, post({**question(i), "stream": True}))
        self.counts["streams"] += 1
        if not is_whole(answer) or text_of(answer) != self.texts[i]:
            self.wrong.append(f"stream {i}: {answer[-300:]!r}")

    async def sample(self):
        answer = await ask_async(self.port, post({"prompt": "Once there was", "n": 3, "temperature": 1, "max_tokens": 20}))
        self.counts["samples"] += 1
        if status_of(answer) != 200:
            self.wrong.append(f"samples: {answer[:300]!r}")

    async def leave(self):
        request = post({**question(random.randrange(NUM_QUESTIONS)), "max_tokens": 200, "stream": random.random() < 0.7})
        connection = await connect(self.port)
        try:
            phase = random.randrange(4)
            sent = request[:random.randrange(len(request))] if phase == 0 else request
            await asyncio.get_running_loop().sock_sendall(connection, sent)
            if phase == 2:
                await asyncio.sleep(random.uniform(0, 0.3))
            if phase == 3:
                await asyncio.wait_for(read_until(connection, b"data: "), random.uniform(0.01, 1))
        except (asyncio.TimeoutError, OSError):
            pass
        finally:
            connection.close()
        self.counts["clients that left"] += 1

    async def ask_badly(self):
        what, request, status = random.choice(BAD)
        answer = await ask_async(self.port, request)
        self.counts["bad requests"] += 1
        if status_of(answer) != status:
            self.wrong.append(f"{what}: {answer[:300]!r}")

    async def idle(self):
        connection = await connect(self.port)
        try:
            await asyncio.get_running_loop().sock_sendall(connection, get("/health", close=False))
            await read_until(connection, b"}")
            await asyncio.sleep(max(0, min(random.uniform(0, 40), self.end - time.monotonic())))
        finally:
            connection.close()
        self.counts["idle connections"] += 1

    async def run(self):
        kinds = [(self.stream, 6, 0.05), (self.sample, 1, 0.2), (self.leave, 4, 0.1), (self.ask_badly, 2, 0.05), (self.idle, 50, 1)]
        await asyncio.gather(*(self.until_end(client, pause) for client, count, pause in kinds for _ in range(count)))


async def watch(server, seconds, readings):
    """Memory and descriptors, a hundred times in all."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        readings.append({"seconds": round(time.monotonic() - start, 1), "rss_mib": round(server.status("VmRSS"), 2),
                         "files": server.files()})
        await asyncio.sleep(seconds / 100)


async def soak(program, minutes, find):
    seconds = 60 * minutes
    with Server(program, "--max-num-seqs", "16", "--kv-cache-memory-bytes", "24M", "--deterministic",
                "--disable-access-log") as server:
        texts = [text_of(await ask_async(server.port, post(question(i)))) for i in range(NUM_QUESTIONS)]
        blocks = server.metric("kv_cache_usage_perc")
        probe, traffic, readings = HealthProbe(server.port, fresh=True), Traffic(server.port, seconds, texts), []
        cpu = server.cpu_seconds()
        await asyncio.gather(traffic.run(), watch(server, seconds, readings))
        cores = (server.cpu_seconds() - cpu) / seconds
        health = probe.stop()
        find.check("no stream is lost, every text is that of its request alone, bad requests are told so", not traffic.wrong,
                   traffic.wrong[:3] if traffic.wrong else ", ".join(f"{n} {kind}" for kind, n in sorted(traffic.counts.items())))
        find.check("nothing runs or waits, KV blocks and descriptors are given back", server.gives_back(),
                   f"{server.files()} descriptors, {server.files_at_start} at the start; KV in use {blocks:.0%} and "
                   f"{server.metric('kv_cache_usage_perc'):.0%}")
        early = max(r["rss_mib"] for r in readings[:len(readings) // 5 + 1])
        growth = server.status("VmRSS") - early
        find.check(f"memory grows by less than {ALLOWED_GROWTH_MIB} MiB after the first fifth", growth < ALLOWED_GROWTH_MIB,
                   f"{growth:+.1f} MiB of {early:.0f}", is_memory=True)
        again = [text_of(await ask_async(server.port, post(question(i)))) for i in range(NUM_QUESTIONS)]
        find.check("the answers are what they were", again == texts)
        server.process.send_signal(signal.SIGTERM)
        find.check("it ends as asked, and has lost no block (exit code 143)", server.process.wait(40) == 143, server.process.returncode)
    return {"minutes": minutes, "counts": dict(traffic.counts), "cores": round(cores, 2), "health": health, "readings": readings}


def summary(report):
    health, lines = report["health"], ["| | |", "|---|---|"]
    lines.append(f"| minutes | {report['minutes']:g} |")
    lines += [f"| {kind} | {count:,} |" for kind, count in sorted(report["counts"].items())]
    lines.append(f"| /health P50, P99; an idle server's P99 (ms) | {health['p50_ms']:.1f}, {health['p99_ms']:.1f}; "
                 f"{health['idle_server_p99_ms']:.1f} |")
    lines.append(f"| cores the server took | {report['cores']} |")
    lines += [f"| {check['what']} | {': '.join(filter(None, ['yes' if check['holds'] else 'NO', check['detail']]))} |" for check in report["checks"]]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    program = str(pathlib.Path(options.program).resolve())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    random.seed(5)
    find = Findings(counts_times=True, counts_memory=options.minutes >= 2)
    report = {"environment": environment(program), **asyncio.run(soak(program, options.minutes, find)),
              "load": os.getloadavg()[0], "checks": find.checks}
    print(summary(report), end="")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "soak.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.out / "soak.md").write_text(summary(report))
    sys.exit(0 if all(check["holds"] or not check["counts"] for check in find.checks) else 1)


if __name__ == "__main__":
    main()
