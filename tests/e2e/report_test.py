#!/usr/bin/env python3
"""The reports of llmrun as other programs read them: pages and figures as XML, SQL by SQLite, CSV, stored runs.

usage: report_test.py PATH_TO_LLMRUN      run from the repository's root
"""
import csv
import io
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

LLMRUN = sys.argv[1]
MODEL = ["--model", "datasets/demo/model"]
LOAD = ["--num-prompts", "5", "--input-len", "12", "--output-len", "9", "-q"]
SVG = "{http://www.w3.org/2000/svg}"
STEP_CHARTS = ("Sequences over time", "KV cache in use over time", "Batch size of decode steps")
COMMANDS = {
    "throughput": ["throughput", *MODEL, *LOAD, "--repeats", "2"],
    "serve_bench": ["serve-bench", *MODEL, *LOAD, "--skip-overhead", "--request-rate", "inf,200", "--goodput", "ttft:60000"],
    "eval": ["eval", "datasets/demo/test.jsonl", "--limit", "4", "--max-tokens", "24", "--backend", "paged,naive", "-q"],
}


def run(*arguments, codes=(0, 1)):
    done = subprocess.run([LLMRUN, *arguments], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode not in codes:
        raise AssertionError(f"{arguments}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def check_svg(svg):
    """Has a label, and no number that is none."""
    assert svg.get("role") == "img" and svg.get("aria-label"), "an SVG without a text alternative"
    width, height = (float(value) for value in svg.get("viewBox").split()[2:])
    for element in svg.iter():
        for name, value in element.attrib.items():
            if name not in ("aria-label", "class"):
                assert not re.search(r"nan|inf", value), f"{name}={value}"
        if element.tag == SVG + "text":
            assert -1 <= float(element.get("x")) <= width and 0 <= float(element.get("y")) <= height, element.text
        if element.tag == SVG + "path":
            assert element.get("d").startswith("M")


def check_page(text):
    """One self-contained, well-formed page; returns its SVGs."""
    page = ElementTree.fromstring(text.replace("<!DOCTYPE html>", ""))
    for element in page.iter():
        assert element.tag not in ("script", "iframe", "img"), element.tag
        for name in ("src", "href"):
            assert element.get(name, "data:").startswith("data:"), element.attrib
    assert "url(" not in text and "@import" not in text
    assert "prefers-color-scheme:dark" in text and "@media print" in text
    svgs = list(page.iter(SVG + "svg"))
    for svg in svgs:
        check_svg(svg)
    return svgs


class Reports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def files(self, name):
        return [str(self.path / f"{name}.{ending}") for ending in ("html", "svg", "json")]

    def run_with_files(self, name, arguments):
        html, svg, stored = self.files(name)
        out = run(*arguments, "--html", html, "--plot", svg, "--output-json", stored, "--output", "sql")
        return out, pathlib.Path(html).read_text(), pathlib.Path(svg).read_text()

    def check_sql(self, sql, table, num_rows):
        database = sqlite3.connect(":memory:")
        database.executescript(sql)
        database.executescript(sql)  # a second run goes into the same table
        database.row_factory = sqlite3.Row
        rows = database.execute(f'SELECT * FROM "{table}"').fetchall()
        self.assertEqual(len(rows), 2 * num_rows)
        return rows

    def test_commands(self):
        rates = {}
        for name, arguments in COMMANDS.items():
            with self.subTest(name):
                sql, page, figure = self.run_with_files(name, arguments)
                rows = self.check_sql(sql, f"llmrun_{name}", 2)
                rates[name] = [row["output_tokens_per_s" if name != "eval" else "questions_per_s"] for row in rows]
                self.assertTrue(all(isinstance(rate, float) and rate > 0 for rate in rates[name]))
                svgs = check_page(page)
                self.assertGreater(len(svgs), 1)
                self.assertIn(f"llmrun {name.replace('_', '-')}", page)
                self.assertIn("Command line", page)
                check_svg(ElementTree.fromstring(figure))
                # A stored run gives the same page.
                again = str(self.path / "again.html")
                run("compare", self.files(name)[2], "--html", again)
                self.assertEqual(pathlib.Path(again).read_text(), page)

    def test_throughput_page_has_what_was_recorded(self):
        _, page, _ = self.run_with_files("timeline", COMMANDS["throughput"])
        report = json.loads((self.path / "timeline.json").read_text())
        for case in report["cases"]:
            timeline = case["timeline"]
            self.assertEqual(len(timeline["time_s"]), len(timeline["running"]))
            self.assertEqual(max(timeline["running"]), 5)
            self.assertGreater(max(timeline["kv_used_percent"]), 0)
            # Every output has a token of the prefill, and eight of decode steps.
            self.assertGreaterEqual(sum(case["decode_batches"]["steps"]), 8)
            for latency in case["latencies"]:
                self.assertEqual(latency["cdf"]["shares"][-1], 1)
                self.assertEqual(latency["cdf"]["values"], sorted(latency["cdf"]["values"]))
        for title in ("Roofline", "<h3>paged</h3>", "<h3>naive</h3>", *STEP_CHARTS, "TTFT", "E2EL"):
            self.assertIn(title, page)
        self.assertIn("Not measured, the device does not tell", page)

    def test_serving_timeline(self):
        _, page, _ = self.run_with_files("serving", COMMANDS["serve_bench"])
        report = json.loads((self.path / "serving.json").read_text())
        for result in report["results"]:
            self.assertEqual(result["timeline"]["running"][-1], 0)
            self.assertEqual(result["timeline"]["waiting"][-1], 0)
            self.assertGreaterEqual(max(result["timeline"]["running"]), 1)
            self.assertIn("kv_used_percent", result["timeline"])
            self.assertIn("ttft_ms", result["latency_cdfs"])
            # All but the first token of each output come of steps that decode, some beside a prompt.
            batches = result["decode_batches"]
            num_tokens = sum(size * steps for size, steps in zip(batches["first"], batches["steps"]))
            self.assertTrue(0 < num_tokens <= 5 * 8, batches)
        for title in STEP_CHARTS:
            self.assertIn(title, page)
        self.assertNotIn("is not known", page)

    def test_serving_of_a_server_does_not_know_its_batches(self):
        stored, html = str(self.path / "serving.json"), str(self.path / "server.html")
        run(*COMMANDS["serve_bench"], "--output-json", stored)
        report = json.loads(pathlib.Path(stored).read_text())
        for result in report["results"]:
            result["decode_batches"] = None
        pathlib.Path(stored).write_text(json.dumps(report))
        run("compare", stored, "--html", html)
        page = pathlib.Path(html).read_text()
        self.assertIn("each step's batch is not known", page.replace("&#39;", "'").replace("&apos;", "'"))
        self.assertNotIn("Batch size of decode steps", page)

    def test_eval_page_has_the_engine_over_time(self):
        _, page, _ = self.run_with_files("steps", COMMANDS["eval"])
        report = json.loads((self.path / "steps.json").read_text())
        for case in report["cases"]:
            self.assertEqual(max(case["timeline"]["running"]), 4)
            self.assertEqual(case["timeline"]["running"][-1], 0)
            self.assertGreater(max(case["timeline"]["kv_used_percent"]), 0)
            self.assertGreater(sum(case["decode_batches"]["steps"]), 0)
            self.assertEqual(len(case["question_scores"]), 4)
        for title in ("The engine over time", "<h3>paged</h3>", *STEP_CHARTS):
            self.assertIn(title, page)

    def test_sweeps_name_their_knees(self):
        _, page, figure = self.run_with_files("sweep", [*COMMANDS["eval"], "--max-num-seqs", "1,4"])
        for text in ("Throughput by concurrency", "knee of paged: ", "knee of naive: "):
            self.assertIn(text, page)
        self.assertIn("knee of paged: ", figure)
        rates = [*COMMANDS["serve_bench"][:-4], "--request-rate", "100,200,400"]
        _, page, _ = self.run_with_files("rates", rates)
        self.assertIn("Latency over offered load", page)

    def test_compare_evaluations(self):
        stored = str(self.path / "eval.json")
        run(*COMMANDS["eval"], "--output-json", stored)
        out, page, figure = self.run_with_files("compare_eval", ["compare", stored, stored, "--fail-below", "0.97"])
        self.assertEqual(len(self.check_sql(out, "llmrun_compare", 4)), 8)
        for text in (page, figure):
            self.assertIn("How much more accurate than the base", text)
        check_page(page)

    def test_compare(self):
        base = str(self.path / "base.json")
        run(*COMMANDS["throughput"], "--output-json", base)
        sql, page, figure = self.run_with_files("compare", ["compare", base, base])
        self.check_sql(sql, "llmrun_compare", 2)
        check_page(page)
        check_svg(ElementTree.fromstring(figure))
        self.assertIn("no difference", page)
        self.assertIn("How many times as fast as the base", figure)

    def test_formats_agree(self):
        arguments = [*COMMANDS["throughput"], "--backend", "paged"]
        rows = list(csv.reader(io.StringIO(run(*arguments, "--output", "csv"))))
        self.assertEqual(len(rows), 2)
        self.assertEqual(len(rows[0]), len(rows[1]))
        for name in COMMANDS:
            lines = run(*COMMANDS[name], "--output", "jsonl").splitlines()
            self.assertEqual(len([json.loads(line) for line in lines]), 2, name)
            self.assertTrue(run(*COMMANDS[name], "--output", "md").startswith("# llmrun "), name)

    def test_text_plots_only_where_wanted(self):
        arguments = COMMANDS["throughput"]
        self.assertNotIn("TTFT: ", run(*arguments))  # standard output is no terminal
        self.assertIn("TTFT: ", run(*arguments, "--text-plots", "always"))
        json.loads(run(*arguments, "--text-plots", "always", "--output", "json"))

    def test_hostile_stored_reports(self):
        evil = '<script>alert("1")</script>&\u0001\ufffe'
        report = {"command": "throughput", "command_line": evil, "model": {"name": evil}, "date": 7, "checks": {"a": 1},
                  "device": {"limits": {"read_bytes_per_s": 1e300, "multiply_flops_per_s": 1e-300}},
                  "cases": [{"name": evil, "metrics": [{"name": "requests_per_s", "mean": None, "samples": []}],
                             "timeline": {"time_s": [0, "x"], "running": [1e308, -1e308]}}, 3, None, {"metrics": {}}]}
        stored, html, svg = (str(self.path / name) for name in ("evil.json", "evil.html", "evil.svg"))
        for command in ("throughput", "eval", "compare", "serve-bench"):
            report["command"] = command
            pathlib.Path(stored).write_text(json.dumps(report))
            run("compare", stored, "--html", html, "--plot", svg, codes=(0,))
            check_page(pathlib.Path(html).read_text())
            check_svg(ElementTree.fromstring(pathlib.Path(svg).read_text()))
        for text in ("[]", "{}", '{"command": "fly"}', "nonsense"):
            pathlib.Path(stored).write_text(text)
            run("compare", stored, "--html", html, codes=(3,))
        run("compare", stored, codes=(2,))
        run("compare", stored, "--html", html, "--output", "json", codes=(2,))  # a form of comparisons

    def test_a_file_that_cannot_be_written_is_told_first(self):
        for flag in ("--html", "--plot"):
            done = subprocess.run([LLMRUN, *COMMANDS["throughput"], flag, "/nowhere/report"], capture_output=True, text=True, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("/nowhere/report cannot be written", done.stderr)
            self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
