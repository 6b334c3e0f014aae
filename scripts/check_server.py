#!/usr/bin/env python3
"""Attacks `llmrun serve` in the ways in which servers fail, and says whether it bore them.

usage: check_server.py LLMRUN [--scale S] [--only NAME,...] [--out DIR] [--sanitized]
       check_server.py --list

Each check starts a server of its own (most over an engine without a model) and asks /health all the while. --scale 1 is the
full count; less is quicker, and then times are told but do not count. --sanitized: a build with sanitizers, whose memory is told
but does not count. --out writes DIR/faults.json and DIR/faults.md; with --only, what else stands there stays. Exit code 1:
something failed. Needs Python alone.
"""
import argparse
import asyncio
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import time

from server_clients import (DEMO, ROOT, Findings, HealthProbe, Server, ask, ask_async, completion, connect, environment, eventually,
                            expected, get, is_whole, post, quantile, read_until, status_of, text_of)

BOUND_MS = 50  # of /health, 99 of 100 times


# --- the faults: each a coroutine of the server's program, the scale and the findings ---

async def disconnects(program, scale, find):
    """clients leave in each of 8 phases"""
    count = max(4, int(500 * scale))
    whole = post(completion(5, 200))
    phases = {"connected": (b"", None), "in the head": (whole[:30], None), "in the body": (whole[:-3], None),
              "sent": (whole, 0), "waiting": (whole, 0.05), "after the first token": (whole, b"data: "),
              "in the stream": (whole, b"}\n\ndata: "), "unstreamed": (post(completion(5, 200, False)), 0.02)}
    with Server(program, "--max-num-seqs", "8") as server:
        probe = HealthProbe(server.port, fresh=True)

        async def leave(sent, wait, at_once):
            async with at_once:
                connection = await connect(server.port)
                await asyncio.get_running_loop().sock_sendall(connection, sent)
                if isinstance(wait, bytes):
                    await read_until(connection, wait)
                elif wait is not None:
                    await asyncio.sleep(wait)
                connection.close()

        for name, (sent, wait) in phases.items():
            at_once = asyncio.Semaphore(16)
            await asyncio.gather(*(leave(sent, wait, at_once) for _ in range(count)))
            find.check(f"{count} clients left: {name}", server.gives_back(), f"{server.files()} descriptors")
        return probe.stop()


async def slow_readers(program, scale, find):
    """200 readers of a byte a second beside 64 that read"""
    count, seconds = max(4, int(200 * scale)), max(2, 50 * scale)
    with Server(program, step_ms=20) as server:
        async def reads(until, times):
            while time.monotonic() < until:
                start = time.monotonic()
                answer = await ask_async(server.port, post(completion(7, 50)))
                times.append(time.monotonic() - start)
                find_mixed.append(text_of(answer) != expected(7, 50))

        async def crawls(until):
            connection = await connect(server.port, 2048)
            await asyncio.get_running_loop().sock_sendall(connection, post(completion(1, 4000, n=2)))
            try:
                while time.monotonic() < until:
                    if not await asyncio.get_running_loop().sock_recv(connection, 1):
                        break
                    await asyncio.sleep(1)
            except OSError:
                pass
            finally:
                connection.close()

        find_mixed, alone, beside = [], [], []
        await asyncio.gather(*(reads(time.monotonic() + seconds, alone) for _ in range(64)))
        before = server.status("VmRSS")
        probe = HealthProbe(server.port, fresh=True)
        until = time.monotonic() + seconds
        slow = [asyncio.create_task(crawls(until + 5)) for _ in range(count)]
        await asyncio.sleep(0.5)
        await asyncio.gather(*(reads(until, beside) for _ in range(64)))
        growth = server.status("VmHWM") - before
        closed = count - max(0, server.files() - server.files_at_start)
        await asyncio.gather(*slow)
        find.check("all readers get their own text", not any(find_mixed), f"{len(find_mixed)} answers")
        find.check("memory for slow readers is bounded: 2 MiB each", growth < 64 + 2 * count, f"{growth:.0f} MiB more",
                   is_memory=True)
        find.check("their requests are over", eventually(server.is_idle), f"{closed} of {count} were closed by the server")
        ratio = quantile(beside, 0.99) / quantile(alone, 0.99)
        find.check("those that read are not slower by more than 10 % (P99)", ratio < 1.1,
                   f"{1e3 * quantile(alone, 0.99):.1f} ms alone, {1e3 * quantile(beside, 0.99):.1f} ms beside", is_time=True)
        return probe.stop()


async def slow_heads(program, scale, find):
    """10,000 connections that send their head a byte a second"""
    count = max(20, int(10_000 * scale))
    with Server(program, "--max-connections", str(count + 1000), step_ms=1) as server:
        probe = HealthProbe(server.port, fresh=True)
        at_once = asyncio.Semaphore(200)

        async def crawls():
            async with at_once:
                connection = await connect(server.port)
            loop, start = asyncio.get_running_loop(), time.monotonic()
            # One read for the whole time: one that is given up each second can lose what came just then.
            answer = asyncio.create_task(loop.sock_recv(connection, 4096))
            try:
                for byte in b"GET /health HTTP/1.1\r\nHost: localhost\r\n":
                    await loop.sock_sendall(connection, bytes([byte]))
                    await asyncio.wait({answer}, timeout=1)
                    if answer.done():
                        return answer.result().startswith(b"HTTP/1.1 408") and time.monotonic() - start < 30
            except OSError:
                pass
            finally:
                answer.cancel()
                connection.close()
            return False

        told = await asyncio.gather(*(crawls() for _ in range(count)))
        find.check(f"{count} heads that do not end are answered 408", all(told), f"{sum(told)} were")
        find.check("nothing is left of them", server.gives_back())
        return probe.stop()


async def idle_connections(program, scale, find):
    """10,000 idle kept-alive connections"""
    count = max(20, int(10_000 * scale))
    with Server(program, "--max-connections", str(count + 1000), step_ms=1) as server:
        connections = []
        for _ in range(count):
            connection = await connect(server.port)
            connections.append(connection)
            await asyncio.get_running_loop().sock_sendall(connection, get("/health", close=False))
            await read_until(connection, b"}")
        probe = HealthProbe(server.port, fresh=True)
        answers = await asyncio.gather(*(ask_async(server.port, post(completion(9 * i, 20))) for i in range(64)))
        find.check(f"64 requests beside {count} idle connections are answered",
                   all(text_of(a) == expected(9 * i, 20) for i, a in enumerate(answers)))
        await asyncio.sleep(max(1, 5 * scale))
        health = probe.stop()
        if scale >= 1:
            find.check("idle connections are closed after 30 s", eventually(lambda: server.files() < 100, 45))
        for connection in connections:
            connection.close()
        find.check("nothing is left of them", server.gives_back())
        return health


async def many_requests(program, scale, find):
    """10,000 requests at once: the queue, then 429"""
    count = max(40, int(10_000 * scale))
    with Server(program, "--max-num-seqs", "256", "--max-waiting-requests", str(count // 2), "--max-connections",
                str(count + 1000), step_ms=2) as server:
        probe = HealthProbe(server.port, fresh=True)
        at_once = asyncio.Semaphore(count)
        answers = await asyncio.gather(*(ask_async(server.port, post(completion(i, 40)), at_once) for i in range(count)))
        right = sum(status_of(a) == 200 and text_of(a) == expected(i, 40) and is_whole(a) for i, a in enumerate(answers))
        refused = sum(status_of(a) == 429 and "Retry-After: " in a for a in answers)
        find.check(f"each of {count} is answered in full or told 429", right + refused == count,
                   f"{right} answered, {refused} refused")
        find.check("nothing is left of them", server.gives_back())
        return probe.stop()


CONNECTS = """
import socket, struct, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
for i in range(count):
    with socket.create_connection(('127.0.0.1', port), 30) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        if i % 3 == 1: connection.sendall(b'GET /health HT')
        if i % 3 == 2:
            connection.sendall(b'GET /health HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')
            assert connection.recv(4096).startswith(b'HTTP/1.1 200'), 'no answer'
"""


async def many_connects(program, scale, find):
    """100,000 connections, one after another"""
    count = max(300, int(100_000 * scale))
    with Server(program, "--disable-access-log", step_ms=1) as server:
        probe = HealthProbe(server.port, fresh=True)
        start = time.monotonic()
        clients = [await asyncio.create_subprocess_exec(sys.executable, "-c", CONNECTS, str(server.port), str(count // 4))
                   for _ in range(4)]
        codes = [await client.wait() for client in clients]
        seconds = time.monotonic() - start
        find.check(f"{count} connections", codes == [0] * 4, f"{seconds:.1f} s, {count / seconds:.0f} a second")
        find.check("in 60 s", seconds < 60, f"{seconds:.1f} s", is_time=True)
        health = probe.stop()
        find.check("no descriptor is lost", server.gives_back(), f"{server.files()} of {server.files_at_start} at the start")
        return health


async def smuggling(program, scale, find):
    """requests that two readers could read differently, and pipelined ones"""
    host = "Host: localhost\r\n"
    heads = [f"POST /generate HTTP/1.1\r\n{host}{rest}" for rest in (
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "Content-Length: +4\r\n\r\nabcd", "Content-Length: 4, 4\r\n\r\nabcd", "Content-Length : 4\r\n\r\nabcd",
        "Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n",
        "X: a\r\n b\r\nContent-Length: 0\r\n\r\n", "Content-Length: 0\nX: y\r\n\r\n", "Host: other\r\nContent-Length: 0\r\n\r\n")]
    heads += ["GET /health\r\n\r\n", "GET http://a/health HTTP/1.1\r\nHost: a\r\n\r\n", "GET /health HTTP/1.1\r\n\r\n"]
    with Server(program, step_ms=0) as server:
        probe = HealthProbe(server.port, fresh=True)
        wrong = []
        for _ in range(max(1, int(500 * scale))):
            for head in heads:
                answer = await ask_async(server.port, head.encode() + get("/version"))
                if not 400 <= status_of(answer) < 600 or '"version"' in answer or answer.count("HTTP/1.1 ") != 1:
                    wrong.append(head)
        find.check(f"{len(heads)} odd requests: one refusal, the connection closed, nothing behind it runs", not wrong, wrong)
        count = max(10, int(1000 * scale))
        many = b"".join(post(completion(i, 3, i % 2 == 0), close=i == count - 1) for i in range(count))
        answer = await ask_async(server.port, many)
        find.check(f"{count} pipelined requests are answered in order",
                   text_of(answer) == "".join(expected(i, 3) for i in range(count)))
        return probe.stop()


async def large_bodies(program, scale, find):
    """a chunked body without end, and one of 1 GiB"""
    with Server(program, step_ms=1) as server:
        ask(server.port, post(completion(1, 3)))
        before = server.status("VmRSS")
        probe = HealthProbe(server.port, fresh=True)
        loop = asyncio.get_running_loop()

        async def sends(head, data):
            connection = await connect(server.port)
            start = time.monotonic()
            try:
                await loop.sock_sendall(connection, head)
                end = time.monotonic() + 30
                while time.monotonic() < end:
                    await loop.sock_sendall(connection, data)
            except OSError:
                pass
            answer = await read_until(connection)
            connection.close()
            return status_of(answer), time.monotonic() - start

        piece = b"x" * 65536
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for name, framing, data in (("without end", "Transfer-Encoding: chunked", b"10000\r\n" + piece + b"\r\n"),
                                    ("of 1 GiB", "Content-Length: 1073741824", piece),
                                    ("of many small chunks", "Transfer-Encoding: chunked", b"1\r\nx\r\n" * 10000)):
            status, seconds = await sends(f"{head}{framing}\r\n\r\n".encode(), data)
            find.check(f"a body {name}: 413, and the connection is closed", status == 413 and seconds < 20,
                       f"after {seconds:.1f} s")
        growth = server.status("VmHWM") - before
        find.check("the memory's peak rises by 16 MiB at most, beside 2 MiB for the rest", growth < 18, f"{growth:.1f} MiB",
                   is_memory=True)
        return probe.stop()


async def no_descriptors(program, scale, find):
    """256 descriptors"""
    with Server(program, max_files=256, step_ms=1) as server:
        probe = HealthProbe(server.port, fresh=False)
        await asyncio.sleep(0.5)
        connections = [await connect(server.port) for _ in range(max(300, int(1000 * scale)))]
        await asyncio.sleep(1)
        cpu, start = server.cpu_seconds(), time.monotonic()
        await asyncio.sleep(max(2, 10 * scale))
        share = (server.cpu_seconds() - cpu) / (time.monotonic() - start)
        refused = 0
        for connection in connections:
            try:
                refused += connection.recv(4096).startswith(b"HTTP/1.1 503")
            except OSError:
                pass
            connection.close()
        find.check("more connections than descriptors are told 503", refused > 0, f"{refused} of {len(connections)}")
        find.check("it does not spin: below 20 % of a core", share < 0.2, f"{100 * share:.1f} %")
        find.check("afterwards it answers", eventually(lambda: status_of(ask(server.port, get("/health"))) == 200))
        return probe.stop()


async def termination(program, scale, find):
    """SIGTERM with 1,000 streams"""
    count = max(20, int(1000 * scale))
    with Server(program, "--drain-timeout", "2", step_ms=5) as server:
        async def reads(i):
            connection = await connect(server.port)
            await asyncio.get_running_loop().sock_sendall(connection, post(completion(i, 50 if i % 2 else 4000)))
            start = await read_until(connection, b"data: ")
            begun.release()
            answer = start + await read_until(connection)
            connection.close()
            return answer

        begun = asyncio.Semaphore(0)
        streams = [asyncio.create_task(reads(i)) for i in range(count)]
        for _ in range(count):
            await begun.acquire()
        server.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*streams)
        whole = sum(is_whole(a) and text_of(a) == expected(i, 50 if i % 2 else 4000) for i, a in enumerate(answers))
        told = sum('"error"' in a and is_whole(a) for a in answers)
        find.check(f"each of {count} streams ends complete or with an error", whole + told == count, f"{whole} complete, {told} told")
        find.check("exit code 143", server.process.wait(30) == 143, server.process.returncode)


async def half_closes(program, scale, find):
    """clients that close their sending side"""
    count = max(5, int(500 * scale))
    with Server(program, step_ms=1) as server:
        probe = HealthProbe(server.port, fresh=True)

        async def half(request):
            connection = await connect(server.port)
            await asyncio.get_running_loop().sock_sendall(connection, request)
            connection.shutdown(socket.SHUT_WR)
            answer = await read_until(connection)
            connection.close()
            return status_of(answer)

        short = [await half(get("/health")) for _ in range(count)]
        find.check(f"{count} short requests are answered", short == [200] * count)
        await asyncio.gather(*(half(post(completion(1, 4000, i % 2 == 0))) for i in range(count)))
        find.check(f"{count} long ones have lost their reader and end", server.gives_back())
        find.check("heads cut short are not answered", [await half(b"GET /he") for _ in range(count)] == [0] * count)
        return probe.stop()


CROWD = """
import socket, sys
ask = bytes.fromhex(sys.argv[3])
connections = []
for _ in range(int(sys.argv[2])):
    connections.append(socket.create_connection(('127.0.0.1', int(sys.argv[1])), 30))
    connections[-1].sendall(ask)
print('sent', flush=True)
sys.stdin.read()
"""


async def killed_client(program, scale, find):
    """a program with 2,000 requests under way is killed"""
    count = max(20, int(2000 * scale))
    with Server(program, "--max-num-seqs", "64") as server:
        probe = HealthProbe(server.port, fresh=True)
        client = subprocess.Popen([sys.executable, "-c", CROWD, str(server.port), str(count), post(completion(5, 200)).hex()],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        client.stdout.readline()
        running = eventually(lambda: server.metric("num_requests_running") > 0)
        client.kill()
        client.wait()
        find.check(f"{count} requests were under way, and nothing is left of them", running and server.gives_back(),
                   f"{server.files()} descriptors, {server.files_at_start} at the start")
        return probe.stop()


async def unusable_addresses(program, _, find):
    """the port is taken, or others could reach it"""
    with Server(program, step_ms=1) as server:
        second = subprocess.run([program, "serve", "--port", str(server.port), *DEMO], capture_output=True, text=True, cwd=ROOT)
        find.check("the second server says so: exit code 2", second.returncode == 2, second.returncode)
        find.check("and names the address", f"127.0.0.1:{server.port}" in second.stderr and "--port" in second.stderr, second.stderr)
    public = subprocess.run([program, "serve", "--host", "0.0.0.0", "--port", "0", *DEMO], capture_output=True, text=True, cwd=ROOT)
    find.check("an address that other machines reach needs a key: exit code 2", public.returncode == 2 and "--api-key" in public.stderr,
               public.stderr)


async def streams(program, scale, find):
    """512 streams of the demo model beside 2,000 idle connections"""
    count, idle = max(16, int(512 * scale)), max(20, int(2000 * scale))
    questions = [f"What is {i % 97} + {i // 97 + i % 7}? ({i})" for i in range(count)]
    body = {"max_tokens": 32, "temperature": 0, "ignore_eos": True}
    with Server(program, "--max-num-seqs", "512", "--deterministic") as server:
        at_once = asyncio.Semaphore(16)
        alone = [text_of(a) for a in await asyncio.gather(*(
            ask_async(server.port, post({"prompt": q, **body}), at_once) for q in questions))]
        connections = [await connect(server.port) for _ in range(idle)]
        probe = HealthProbe(server.port, fresh=True)
        start, cpu = time.monotonic(), server.cpu_seconds()
        at_once = asyncio.Semaphore(count)
        answers = await asyncio.gather(*(ask_async(server.port, post({"prompt": q, "stream": True, **body}), at_once)
                                         for q in questions))
        seconds = time.monotonic() - start
        health = probe.stop()
        for connection in connections:
            connection.close()
        find.check(f"{count} streams: none lost", all(is_whole(a) for a in answers),
                   f"{seconds:.1f} s, {count * 32 / seconds:.0f} tokens/s, {(server.cpu_seconds() - cpu) / seconds:.2f} cores")
        find.check("none mixed: each has the text of its own request alone, unstreamed",
                   [text_of(a) for a in answers] == alone, f"{len(set(alone))} different texts")
        return health


def microseconds(seconds, count):
    return round(1e6 * seconds / count, 1)


async def overhead(program, scale, find):
    """what the server costs: an engine without a model and without a pause between steps"""
    rounds, count = 5, max(50, int(2000 * scale))
    latency, per_request, per_token, alone, lost = [], [], [], [], 0
    one = post(completion(1, 1, False), close=False)
    with Server(program, "--disable-access-log", step_ms=0) as server, \
            socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(rounds):
            cpu = server.cpu_seconds()
            for _ in range(count):
                start = time.perf_counter()
                connection.sendall(one)
                connection.recv(65536)
                latency.append(1e6 * (time.perf_counter() - start))
            per_request.append(microseconds(server.cpu_seconds() - cpu, count))
    with Server(program, "--disable-access-log", step_ms=2) as server:
        for num_streams, figures in ((1, alone), (64, per_token)):
            for _ in range(rounds):
                cpu, tokens = server.cpu_seconds(), count
                answers = await asyncio.gather(*(ask_async(server.port, post(completion(i, tokens))) for i in range(num_streams)))
                figures.append(microseconds(server.cpu_seconds() - cpu, num_streams * tokens))
                lost += not all(map(is_whole, answers))
    find.check("each stream is whole", lost == 0)
    values = {"request": quantile(per_request, 0.5), "token": quantile(per_token, 0.5)}
    find.check("below 100 us of CPU a request (median of 5 rounds)", values["request"] < 100,
               f"{values['request']} us; sent to answered, client included: {quantile(latency, 0.5):.0f} us", is_time=True)
    find.check("below 10 us of CPU a token of 64 streams (median of 5 rounds)", values["token"] < 10,
               f"{values['token']} us; of one stream, which wakes two threads a token: {quantile(alone, 0.5)} us", is_time=True)


CHECKS = {"F37": disconnects, "F38": slow_readers, "F39": slow_heads, "F40": idle_connections, "F41": many_requests,
          "F42": many_connects, "F43": smuggling, "F44": large_bodies, "F45": no_descriptors, "F46": termination,
          "F47": half_closes, "F48": unusable_addresses, "R21": killed_client, "streams": streams, "overhead": overhead}


def table(report):
    lines = ["| attack | /health P50 ms | P99 ms | max ms | P99 of an idle server | load | holds |", "|---|---|---|---|---|---|---|"]
    for result in report["checks"].values():
        health = result["health"] or {}
        failed = [c["what"] for c in result["checks"] if not c["holds"]]
        cells = [f"{health[key]:.1f}" if health.get(key) is not None else "" for key in ("p50_ms", "p99_ms", "max_ms", "idle_server_p99_ms")]
        lines.append(f"| {result['title']} | {' | '.join(cells)} | {result['load']:.1f} | "
                     f"{'yes' if not failed else 'NO: ' + '; '.join(failed)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?")
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--only", default=",".join(CHECKS))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--sanitized", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list or not options.program:
        print("\n".join(f"{name}: {check.__doc__}" for name, check in CHECKS.items()))
        return
    program = str(pathlib.Path(options.program).resolve())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = {"environment": environment(program), "scale": options.scale, "checks": {}}
    if options.out and (options.out / "faults.json").exists():
        report["checks"] = json.loads((options.out / "faults.json").read_text())["checks"]
    is_sound = True
    for name in options.only.split(","):
        find, start = Findings(options.scale >= 1, not options.sanitized), time.monotonic()
        health = asyncio.run(CHECKS[name](program, options.scale, find))
        if health and health["asked"] >= 100:
            find.check(f"/health P99 below {BOUND_MS} ms", health["p99_ms"] is not None and health["p99_ms"] < BOUND_MS,
                       health, is_time=True)
        report["checks"][name] = {"title": CHECKS[name].__doc__, "seconds": round(time.monotonic() - start, 1),
                                  "load": os.getloadavg()[0], "health": health, "checks": find.checks}
        print(f"{name}: {CHECKS[name].__doc__} ({time.monotonic() - start:.1f} s)", flush=True)
        for check in find.checks:
            is_sound &= check["holds"] or not check["counts"]
            verdict = "ok  " if check["holds"] else "FAIL" if check["counts"] else "slow"
            print(f"  {verdict} {check['what']}  {check['detail']}", flush=True)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "faults.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.out / "faults.md").write_text(table(report))
    sys.exit(0 if is_sound else 1)


if __name__ == "__main__":
    main()
