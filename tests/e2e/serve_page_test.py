#!/usr/bin/env python3
"""The page of `llmrun serve` in headless Chromium: by keyboard alone, in light and dark, on a phone's width.

usage: serve_page_test.py LLMRUN [--screenshots DIR]
Exit code 77 where there is no Chromium: skipped.
"""
import http.server
import json
import pathlib
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import chromium  # noqa: E402

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> & <b>bold</b>"


class OtherEndpoint(http.server.BaseHTTPRequestHandler):
    """Another server's API: at /hostile it answers with markup, at /endless without end."""
    protocol_version = "HTTP/1.0"

    def head(self, content_type):
        self.send_response(200)
        for name, value in (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "*"),
                            ("Content-Type", content_type)):
            self.send_header(name, value)
        self.end_headers()

    def do_OPTIONS(self):
        self.head("text/plain")

    def do_GET(self):
        self.head("application/json")
        self.wfile.write(json.dumps({"data": [{"id": "<i>other</i>"}]}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.head("text/event-stream")
        try:
            for _ in range(100_000 if self.path.startswith("/endless") else 1):
                event = {"choices": [{"delta": {"content": HOSTILE}}]}
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                time.sleep(0.02)
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.was_left.set()

    def log_message(self, *_):
        pass


def start_other():
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherEndpoint)
    other.was_left = threading.Event()
    threading.Thread(target=other.serve_forever, daemon=True).start()
    return other


def start(program):
    server = subprocess.Popen([program, "serve", "--port", "0", "--model", "datasets/demo/model", "--dtype", "float32",
                               "--served-model-name", "demo"], stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if match := re.search(r"serving demo on (http://\S+)", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, match[1]
    raise SystemExit(f"the server did not start: exit code {server.wait()}")


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.textContent")


def check_chat(page):
    """One question, typed and sent by keyboard."""
    page.wait_until(lambda: page.evaluate("$('model').textContent") == "demo")
    assert focused(page) == "question"
    page.type("What is the capital")
    page.press("Enter", chromium.SHIFT)
    assert page.evaluate("$('question').value").count("\n") == 1, "Shift+Enter is a new line"
    page.evaluate("$('question').value = ''; $('question').focus()")
    page.type("What is the capital of Japan?")
    page.press("Enter")
    page.wait_until(lambda: "Tokyo" in page.evaluate("$('messages').innerText"))
    page.wait_until(lambda: not page.evaluate("!!document.querySelector('[aria-busy]')"))
    assert re.search(r"\d+ tokens, [\d.]+ tokens/s", page.evaluate("$('messages').innerText"))
    assert page.evaluate("$('question').value") == "" and focused(page) == "question"
    assert page.evaluate("$('messages').getAttribute('role') + $('messages').getAttribute('aria-live')") == "logpolite"
    page.type(HOSTILE)
    page.press("Enter")
    page.wait_until(lambda: page.evaluate("document.querySelectorAll('.answer').length == 2 && !document.querySelector('[aria-busy]')"))
    assert page.evaluate("[...document.querySelectorAll('.user')].at(-1).textContent") == HOSTILE


def check_keyboard(page):
    """Everything in reach of Tab, in order, and seen to have the focus."""
    page.evaluate("$('question').focus()")
    page.press("Tab")
    assert focused(page) == "Send"
    page.press("Tab")
    assert focused(page) == "clear", "Stop is passed over while there is nothing to stop"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for _ in range(3):
        page.press("Tab", chromium.SHIFT)
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.press("Tab", chromium.SHIFT)
    assert focused(page) == "tab-chat"
    page.press("ArrowRight")
    assert focused(page) == "tab-compare" and page.evaluate("$('chat').hidden && !$('compare').hidden")
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert focused(page) == "tab-table"
    page.press("Home")
    assert focused(page) == "tab-chat" and page.evaluate("tabs.filter(tab => tab.tabIndex == 0).length") == 1


def check_compare(page, base, other):
    """The same question to three endpoints; what a model writes stays text; Escape stops."""
    page.evaluate("tabs[1].click()")
    page.evaluate("$('key').value = 'own'")
    sent = [page.evaluate(f"String(headers({arguments}).Authorization)") for arguments in ("''", "'http://other.example'", "'http://other.example', 'theirs'")]
    assert sent == ["Bearer own", "undefined", "Bearer theirs"], sent
    page.evaluate("$('key').value = ''")
    page.evaluate(f"$('endpoints').value = '{base}\\n{other}/hostile\\n{other}/endless some-model'; $('compare-question').focus()")
    page.type("What is the capital of Japan?")
    page.press("Enter")
    page.wait_until(lambda: page.evaluate("$('answers').innerText").count("tokens/s") == 3)
    page.wait_until(lambda: "Tokyo" in page.evaluate("document.querySelectorAll('#answers .answer')[0].textContent"))
    assert page.evaluate("document.querySelectorAll('#answers .answer')[1].textContent") == HOSTILE
    assert page.evaluate("document.querySelectorAll('#answers .note')[1].textContent").startswith("<i>other</i>, ")
    assert page.evaluate("document.querySelectorAll('.message *, .note *:not(code):not(#origin)').length") == 0
    page.press("Escape")
    page.wait_until(lambda: page.evaluate("document.querySelectorAll('#answers .note')[2].textContent").endswith("stopped"))
    page.wait_until(lambda: not page.evaluate("$('compare-form').querySelector('.primary').disabled"))
    assert page.evaluate("typeof window.hacked") == "undefined"


def check_table(page):
    """Questions with their answers and tokens/s."""
    page.evaluate("tabs[2].click(); $('questions').focus()")
    page.type("What is 3 + 4?\nWhat is the capital of Japan?\n\nWhat is the capital of France?")
    page.press("Tab")
    assert focused(page) == "Ask"
    page.press("Enter")
    page.wait_until(lambda: "3 of 3 answered" in page.evaluate("$('table-sum').textContent"))
    rows = page.evaluate("[...$('rows').rows].map(row => [...row.cells].map(cell => cell.textContent))")
    assert [row[0] for row in rows] == ["1", "2", "3"] and "Tokyo" in rows[1][2] and "Paris" in rows[2][2], rows
    # An answer that comes in one piece has no rate.
    assert all(int(row[3]) > 1 and (row[4] == "–" or float(row[4]) > 0) for row in rows), rows


def luminance(color):
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def check_looks(page, screenshots):
    """Contrast as WCAG AA asks, and nothing wider than the window."""
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        for text, ground in (("body", "body"), (".note", "body"), (".note", "details"), (".primary", ".primary"), (".user", ".user"),
                             (".error", "body")):
            page.evaluate("document.querySelector('.error') || $('answers').append(make('span', 'error', '!'))")
            pair = sorted(luminance(page.evaluate(f"getComputedStyle(document.querySelector('{where}')).{name}"))
                          for where, name in ((text, "color"), (ground, "backgroundColor")))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (scheme, text, ground)
        for name, width, height in (("wide", 1000, 800), ("phone", 360, 740)):
            page.resize(width, height)
            for i, tab in enumerate(("chat", "compare", "table")):
                page.evaluate(f"tabs[{i}].click(); $('parameters').open = {'true' if tab == 'chat' else 'false'}; scrollTo(0, 0)")
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, tab)
                if screenshots:
                    page.screenshot(screenshots / f"{tab}-{name}-{scheme}.png")


def main():
    if chromium.find() is None:
        print("SKIPPED: there is no Chromium here")
        sys.exit(77)
    screenshots = pathlib.Path(sys.argv[3]) if sys.argv[2:3] == ["--screenshots"] else None
    other = start_other()
    other_url = f"http://127.0.0.1:{other.server_address[1]}"
    server, base = start(sys.argv[1])
    try:
        with chromium.Browser(base + "/") as page:
            check_chat(page)
            check_keyboard(page)
            check_compare(page, base, other_url)
            assert other.was_left.wait(30), "what is stopped is no longer read"
            check_table(page)
            check_looks(page, screenshots)
            strangers = [url for url in page.requests if not url.startswith((base, other_url, "data:"))]
            assert not strangers, strangers
            assert not page.problems, page.problems
    finally:
        server.terminate()
    assert server.wait(30) == 143
    print("ok")


if __name__ == "__main__":
    main()
