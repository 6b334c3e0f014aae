#!/usr/bin/env python3
"""Writes the tables and figures of README.md from the files under results/ and datasets/, between their markers.

usage: update_readme.py [--check] [--llmrun PROGRAM]
  --check    only tells whether README.md is current (exit status 1 if not)
  --llmrun   the program, which draws some of the pictures; without it they are left as they are

A block stands between <!-- begin NAME --> and <!-- end NAME -->; NAME is a function below, which gives the block's text and may
add pictures to PICTURES.
"""
import argparse
import collections
import html
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap

sys.dont_write_bytecode = True  # of bench_gpu, beside the sources
import bench_gpu as bench

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURES = {}  # path -> text, written (or checked) with README.md
DRAWN = {}  # path -> the report that the program draws it of


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--llmrun", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.llmrun and not arguments.llmrun.is_file():
        parser.error(f"--llmrun {arguments.llmrun}: there is no such program")
    return arguments


def draw_pictures(program):
    """Has the program draw what DRAWN names."""
    if program is None:
        print(f"without --llmrun PROGRAM these are left as they are: {', '.join(DRAWN)}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        for path, report in DRAWN.items():
            plot = pathlib.Path(folder) / "plot.svg"
            subprocess.run([program, "compare", report, "--plot", plot], check=True)
            PICTURES[path] = plot.read_text(encoding="utf-8")


def read_json(path):
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def machine(results):
    """The processor, the instruction set and the threads, once each."""
    _, isa, threads = results["device"].rsplit(", ", 2)
    return f"{results['cpu'].replace('(R)', '')}, {isa}, {threads}"


def speed():
    parts = []
    for folder in sorted((ROOT / "results").glob("cpu-*")):
        if not (folder / "results.json").is_file():
            continue
        results = read_json(f"results/{folder.name}/results.json")
        seconds, limits, peaks = results["seconds"], results["limit_seconds"], results["peaks"]
        rows = [("1 prompt of 64 tokens, 128 output tokens: time per token", f"{1e3 * seconds['decode']:.2f} ms", f"{1e3 * limits['decode']:.2f} ms", "decode"),
                ("1 prompt of 512 tokens: time to the first token", f"{1e3 * seconds['prefill']:.0f} ms", f"{1e3 * limits['prefill']:.0f} ms", "prefill"),
                ("25 prompts of 64 tokens, 128 output tokens each: time for all", f"{seconds['batch']:.2f} s ({25 * 128 / seconds['batch']:.0f} tokens/s)",
                 f"{limits['batch']:.2f} s", "batch")]
        def share(key):
            shares = [run["share"] for run in results["runs"][key]] if "runs" in results else []
            spread = f" ({100 * min(shares):.0f} to {100 * max(shares):.0f} %)" if shares else ""
            return f"{100 * results['share'][key]:.0f} %{spread}"

        if "runs" in results:
            low, high = (results["peak_range"]["bandwidth"][i] / 1e9 for i in range(2))
            measured_peaks = (f"{low:.1f} to {high:.1f} GB/s read bandwidth, {peaks['flops'] / 1e12:.2f} bf16 TFLOP/s, measured before and "
                              f"after each of {len(results['runs']['decode'])} runs; the run with the median share, and the shares of all")
        else:
            measured_peaks = (f"{peaks['bandwidth'] / 1e9:.1f} GB/s read bandwidth, {peaks['flops'] / 1e12:.2f} bf16 TFLOP/s, measured once, "
                              f"before the runs; medians of {len(results['samples']['decode'])}")
        table = "\n".join(f"| {name} | {measured} | {limit} | {share(key)} |" for name, measured, limit, key in rows)
        parts.append(f"{results['model']} in bf16 on {machine(results)}: {measured_peaks} (`results/{folder.name}/`, by `scripts/bench_cpu.py`).\n\n"
                     f"| workload | measured | limit | share of the limit |\n|---|---|---|---|\n{table}")
    return "\n\n".join(parts)


def demo():
    metrics = read_json("datasets/demo/metrics.json")
    accuracy = read_json("results/eval-cpu/paged-naive.json")["cases"][0]
    share, problems = accuracy["scores"]["strict-match"]["mean"], accuracy["num_questions"]
    test = metrics["test"]
    kinds = metrics["held_out_large"]["per_kind"]
    hardest = sorted(kinds.items(), key=lambda item: item[1])[:4]
    return (f"`datasets/demo/model` is a Llama-architecture checkpoint of {metrics['parameters'] / 1e6:.1f} M parameters, trained by "
            f"`scripts/train_demo_model.py` on synthetic word problems and small talk. Greedy, it solves "
            f"{round(share * problems)} of the {problems} held-out problems of `datasets/demo/test.jsonl` "
            f"({100 * share:.1f} %) with llmrun, and {100 * test['accuracy']:.1f} % with transformers; "
            f"on {metrics['held_out_large']['problems']} further held-out problems its hardest kinds stay hard: "
            + ", ".join(f"{name} {100 * share:.0f} %" for name, share in hardest)
            + ". How it was made, and how the split excludes leakage: `datasets/README.md`.")


def bars_svg(rows, left=250):
    """Horizontal bars of shares between 0 and 1, as a picture that reads on light and dark pages; labels are `left` wide."""
    width, bar_height, gap = 720, 22, 14
    height = len(rows) * (bar_height + gap) + gap + 18
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
             f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    scale = width - left - 70
    for i, (label, share) in enumerate(rows):
        y = gap + i * (bar_height + gap)
        parts.append(f'<text x="{left - 10}" y="{y + 15}" text-anchor="end" fill="#222222">{html.escape(label)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{scale}" height="{bar_height}" fill="#e8ecf0"/>')
        parts.append(f'<rect x="{left}" y="{y}" width="{scale * min(share, 1):.1f}" height="{bar_height}" fill="#2f6fb2"/>')
        parts.append(f'<text x="{left + scale + 8}" y="{y + 15}" fill="#222222">{100 * share:.0f} %</text>')
    parts.append(f'<text x="{width - 10}" y="{height - 6}" text-anchor="end" fill="#555555">share of the limit measured on the same machine in the same run</text>')
    parts.append("</svg>\n")
    return "\n".join(parts)


def picture():
    rows = []
    for folder in sorted((ROOT / "results").glob("cpu-*")):
        if (folder / "results.json").is_file():
            results = read_json(f"results/{folder.name}/results.json")
            isa = results["device"].split(", ")[1] if ", " in results["device"] else results["device"]
            for key, label in (("decode", "decode, batch 1"), ("prefill", "prefill of 512"), ("batch", "25 x 64/128")):
                rows.append((f"{isa}: {label}", results["share"][key]))
    PICTURES["results/cpu-share.svg"] = bars_svg(rows)
    return "![Share of the machine's limit that the CPU backend reaches](results/cpu-share.svg)"


# ---- GPU ----

def read_reports(folder):
    """The workloads of bench_gpu that `folder` has a report of, with it."""
    reports = {}
    for workload in bench.WORKLOADS:
        report = bench.load_report(folder, workload)
        if report is None:
            continue
        wrong = bench.mismatches(workload, report)
        if wrong:
            sys.exit(f"{folder / (workload.name + '.json')} is not of that workload: {'; '.join(wrong)}")
        reports[workload.name] = (workload, report)
    cards = {report["device"]["description"] for _, report in reports.values() if report["device"]["kind"] == "cuda"}
    if len(cards) > 1:
        sys.exit(f"{folder} mixes devices: {'; '.join(sorted(cards))}")
    return reports


def percent(share):
    return "" if share is None else f"{100 * share:.0f} %"


def idle(case):
    """The share of time in which the card has no work between steps."""
    share = bench.metric(case, "device_idle_percent")
    return "" if share is None else f"{share:.1f} %"


def rate_of(case):
    """Requests/s with the 95 % interval of the mean."""
    half_width = bench.half_width(case, "requests_per_s")
    return bench.significant(bench.metric(case, "requests_per_s")) + ("" if half_width is None else f" ± {bench.significant(half_width)}")


def ratio(value, to):
    return f"{value / to:.2f} x" if value and to else ""


def invalid_mark(report, case_name):
    return " (INVALID)" if any(check["case"] in ("", case_name) for check in bench.invalid_checks(report)) else ""


def card_sentences(folder, reports):
    """The card, what it was measured to do, and the program."""
    environment = read_json(f"results/{folder.name}/environment.json")
    on_card = [report for _, report in reports.values() if report["device"]["kind"] == "cuda"]
    name, memory = on_card[0]["device"]["description"].split(", ")[:2]
    gpu = environment["gpus"][0] if environment["gpus"] else {}
    if gpu and gpu["name"] != name:
        sys.exit(f"results/{folder.name}: environment.json is of {gpu['name']}, the reports are of {name}")
    facts = [memory]
    if gpu:
        facts += [f"power limit {gpu['power.limit'].replace('.00', '')}", f"driver {gpu['driver_version']}"]
    limits = [report["device"]["limits"] for report in on_card]
    reads = sorted(one["read_bytes_per_s"] / 1e12 for one in limits)
    multiplies = sorted(one["multiply_flops_per_s"] / 1e12 for one in limits)
    commits = collections.Counter(report["build"]["git_commit"] for report in on_card)
    return (f"{name} ({', '.join(facts)}), {environment['processor']}, {environment['cpus']} CPUs. Read bandwidth {reads[0]:.2f} to {reads[-1]:.2f} TB/s, "
            f"bf16 multiply {multiplies[0]:.0f} to {multiplies[-1]:.0f} TFLOP/s, measured in each run. llmrun of "
            f"{'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)} (`results/{folder.name}/`, by `scripts/bench_gpu.py`).")


def gpu_speed_table(reports):
    rows, is_whole_run = [], False
    # The goals of bench_gpu are an H200's.
    is_goal_card = any("H200" in report["device"]["description"] for _, report in reports.values())
    for workload, report in reports.values():
        case = bench.case_of(report, "paged")
        if not workload.unit or case is None:
            continue
        name = workload.title
        if workload.unit == bench.TOKENS_PER_SECOND:
            is_whole_run |= not bench.is_steady(case)
            name += ", steady" if bench.is_steady(case) else ", whole run"
        if workload.unit == bench.MILLISECONDS_PER_TOKEN:
            name += ", time per output token"
        cells = [name, bench.show(bench.measured(workload, case), workload.unit) + invalid_mark(report, "paged"),
                 percent(bench.limit_share(case)), idle(case)]
        if is_goal_card:
            cells[1:1] = [bench.show(workload.roofline, workload.unit)]
            cells[3:3] = [bench.show(value, workload.unit) for value in (workload.goal, workload.limit)]
        rows.append("| " + " | ".join(cells) + " |")
    if not rows:
        return ""
    heads = ["workload (bf16)", "measured", "share of the limit measured in the same run", "GPU idle"]
    if is_goal_card:
        heads[1:1] = ["roofline"]
        heads[3:3] = ["goal", "not worse than"]
    text = ("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|\n" + "\n".join(rows) + "\n\n" +
            ("The roofline, the goal and the bound beside it are for this card at 4.3 TB/s and 790 TFLOP/s, kernels one after another. " if is_goal_card else "") +
            "The share is of the whole run, start and tail included: the time an ideal schedule's steps need at the bandwidth and multiply rate measured in that "
            "run, over the time taken. \"GPU idle\" is the time without work between steps, by the card's clock. \"Steady\" is from the first to the last step in "
            "which 90 % of the largest number of sequences decode.")
    if is_whole_run:
        text += " Where the table says \"whole run\", the report has no steady window; start and tail make the figure a little lower."
    return text


def naive_table(reports):
    rows = []
    for workload, report in reports.values():
        paged, naive = bench.case_of(report, "paged"), bench.case_of(report, "naive")
        if paged is None or naive is None:
            continue
        rates = [bench.metric(case, "requests_per_s") for case in (paged, naive)]
        shown = [rate_of(case) + invalid_mark(report, case["name"]) for case in (paged, naive)]
        rows.append(f"| {workload.title} | {shown[0]} | {shown[1]} | {ratio(*rates)} | {workload.naive_limit or ''} |")
    if not rows:
        return ""
    return ("`paged` against `naive` (static padded batches, contiguous KV memory, plain attention, no graphs), requests/s with the 95 % interval of the mean:\n\n"
            "| workload | paged | naive | paged / naive | transformers on an H200 |\n|---|---|---|---|---|\n" + "\n".join(rows) +
            "\n\nThe last column is what Hugging Face transformers 5.17 did on an H200 when this project was planned (the run is not recorded here): a naive backend slower than that would be a straw man.")


def ablation_table(folder, reports):
    if "qwen2-7b-ablation" not in reports:
        return ""
    picture_path = f"results/{folder.name}/ablation.svg"
    DRAWN[picture_path] = folder / "qwen2-7b-ablation.json"
    workload, report = reports["qwen2-7b-ablation"]
    rows, first, before = [], None, None
    for case in report["cases"]:
        rate = bench.metric(case, "requests_per_s")
        first = first or rate
        wasted, batch = bench.metric(case, "kv_wasted_percent"), bench.metric(case, "mean_decode_batch")
        rows.append(f"| {case['name']}: {case['description']} | {bench.significant(rate)}{invalid_mark(report, case['name'])} | "
                    f"{ratio(rate, before)} | {ratio(rate, first)} | "
                    f"{'' if batch is None else f'{batch:.0f}'} | {'' if wasted is None else f'{wasted:.0f} %'} |")
        before = rate
    return (f"What each part brings ({workload.title}; each level adds one change to the one above it, {report['repeats']} "
            f"{'run' if report['repeats'] == 1 else 'runs'}):\n\n"
            f"![Requests per second of each level]({picture_path})\n\n"
            "| level | requests/s | against the level above | against L0 | sequences in a decode step | KV memory reserved but not used |\n"
            "|---|---|---|---|---|---|\n" + "\n".join(rows))


def closing_sentences(reports):
    """Start-up, the demo model, what marks a run, and what all this does not show."""
    sentences = []
    start_ups = [bench.case_of(report, "paged")["start_up"]["engine_ready_s"] for workload, report in reports.values()
                 if workload.name.startswith("qwen2-7b-") and workload.name != "qwen2-7b-ablation"]
    if start_ups:
        sentences.append(f"From the start of loading to an engine that takes requests, with random weights of Qwen2-7B made on the card: {min(start_ups):.1f} "
                         f"to {max(start_ups):.1f} s, the longest where products were measured, which a first start does.")
    demo_rates = [f"{bench.significant(bench.metric(case, 'output_tokens_per_s'))} with `{case['name']}`{'' if name == 'demo-cuda' else ' on the CPU'}"
                  for name in ("demo-cuda", "demo-cpu") if name in reports for case in reports[name][1]["cases"]]
    if demo_rates:
        sentences.append(f"The demo model's output tokens/s (200 prompts, 64 in, 128 out): {', '.join(demo_rates)}.")
    clocks = {workload.name: [[sample for case in report["cases"] for metric in case["metrics"] if metric["name"] == name
                               for sample in metric["samples"]] for name in ("min_clock_mhz", "max_clock_mhz")]
              for workload, report in reports.values()}
    highest = max((clock for _, most in clocks.values() for clock in most), default=0)
    capped = [f"{name} (down to {min(least):.0f} MHz)" for name, (least, _) in clocks.items() if least and min(least) < 0.97 * highest]
    if capped:
        sentences.append(f"The power limit held the clocks, at most {highest:.0f} MHz, back in {', '.join(capped)}.")
    for workload, report in reports.values():
        sentences += [f"INVALID, {workload.name}: {check['case']}: {check['message']}." for check in bench.invalid_checks(report)]
    return " ".join(sentences + ["What these figures do not show: " + bench.NOT_SHOWN])


def read_bandwidth(reports):
    return max((report["device"]["limits"]["read_bytes_per_s"] for _, report in reports.values()), default=0)


def gpu():
    parts, bars = [], []
    cards = [(path, read_reports(path)) for path in (ROOT / "results").glob("cuda-*") if path.is_dir()]
    for folder, reports in sorted(cards, key=lambda card: -read_bandwidth(card[1])):  # the fastest card first
        if not any(report["device"]["kind"] == "cuda" for _, report in reports.values()):
            continue
        parts += [card_sentences(folder, reports), gpu_speed_table(reports), naive_table(reports), ablation_table(folder, reports), closing_sentences(reports)]
        for workload, report in reports.values():
            case = bench.case_of(report, "paged")
            share = case and workload.unit and bench.limit_share(case)
            if share:
                bars.append((f"{folder.name.removeprefix('cuda-').upper()}: {workload.title.removesuffix(', output')}", share))
    if bars:
        PICTURES["results/cuda-share.svg"] = bars_svg(bars, left=370)
        parts.insert(0, "![Share of the card's limit that the CUDA backend reaches](results/cuda-share.svg)")
    return "\n\n".join(["### On a GPU"] + [part for part in parts if part]) if parts else ""


# Transformers has no Baichuan.
CHECKED_AGAINST = {"BaichuanForCausalLM": "a plain PyTorch reference"}


def architectures():
    """The table that `llmrun info --architectures` prints, from the same place."""
    source = (ROOT / "engine/models/model_registry.cpp").read_text(encoding="utf-8")
    rows = re.findall(r'Architecture\{"(\w+)", "\w+", "([^"]+)",', source)
    if not rows:
        sys.exit("engine/models/model_registry.cpp has no table of architectures")
    return ("| models | architecture in config.json | checked against |\n|---|---|---|\n" +
            "\n".join(f"| {models} | `{name}` | {CHECKED_AGAINST.get(name, 'transformers')} |" for name, models in rows))


def supported_components(path):
    """The list behind "supported:" in the message that refuses others."""
    source = re.sub(r'"\s*\n\s*"', "", (ROOT / path).read_text(encoding="utf-8"))
    lists = re.findall(r"\(supported: ([^){]+)\)", source)
    if len(lists) != 1:
        sys.exit(f"{path} has no list of what is supported")
    return lists[0]


def tokenizers():
    """What `llmrun info --tokenizers` prints, the parts of a tokenizer.json, chat templates, and what all were compared with."""
    source = (ROOT / "engine/tokenizer/tokenizer_description.cpp").read_text(encoding="utf-8")
    kinds = re.findall(r'TokenizerKind\{"([^"]+)", "([^"]+)", "([^"]+)", "([^"]+)"\}', source)
    if not kinds:
        sys.exit("engine/tokenizer/tokenizer_description.cpp has no table of tokenizers")
    table = "\n".join(f"| {name} | {' + '.join(f'`{file}`' for file in files.split(' + '))} | {families} | {reference} |"
                      for name, files, families, reference in kinds)
    equality = read_json("results/tokenizer/equality.json")
    families = equality["families"]
    differences = sum(family["differences"] for family in families)
    templates = read_json("tests/data/chat_template/goldens.json")
    ids = read_json("tests/data/chat_template/ids.json")
    conversations = len(next(iter(templates.values())))
    source = (ROOT / "engine/chat_template/built_in_chat_templates.cpp").read_text(encoding="utf-8")
    names = re.findall(r'^    \{"(\w+)", k\w+\},$', source, re.MULTILINE)
    return ("| tokenizer | files | models | checked against |\n|---|---|---|---|\n" + table + "\n\n"
            f"Of a `tokenizer.json`: normalizers {supported_components('engine/tokenizer/normalizer.cpp')}; pre-tokenizers "
            f"{supported_components('engine/tokenizer/pre_tokenizer.cpp')}; added tokens with all their flags. Anything else is refused by its "
            f"name. {equality['strings']:,} strings in each of {len(families)} families ({', '.join(f['family'] for f in families)}), encoded, "
            f"decoded, and decoded token by token: {differences} differences from Hugging Face (`results/tokenizer/`, by "
            "`scripts/compare_tokenizers.py`; `llmrun tokenize --check FILE` compares with ids of yours, JSON lines of `text` and `ids`).\n\n"
            "| chat template | |\n|---|---|\n"
            "| the model's own | `chat_template.jinja`, or `chat_template` of `tokenizer_config.json`, its variant for tools included |\n"
            "| a file | `--chat-template FILE` |\n"
            f"| built in | `--chat-template` {', '.join(f'`{name}`' for name in names)}; `none` |\n"
            f"| checked against transformers | text of {len(templates)} templates x {conversations} conversations, ids of {len(ids)} |")


def score_text(score):
    return f"{100 * score['mean']:.1f} ± {100 * score['stderr']:.1f} %"


def vote_sentence(report, case):
    """pass@k and maj@k of some k."""
    shown = [score for score in case.get("repeated", []) if score["k"] & (score["k"] - 1) == 0]
    if not shown:
        return ""
    values = lambda key: ", ".join(f"{100 * score[key]['mean']:.1f}" for score in shown)
    return (f"Temperature {report['sampling']['temperature']:g}, k = {', '.join(str(score['k']) for score in shown)}: "
            f"maj@k {values('majority')} %; pass@k {values('pass')} %.")


def evaluation_sentences(report):
    """What the cases of a report have beside a row: votes, an early stop's saving, knees."""
    sentences = [vote_sentence(report, case) for case in report["cases"]]
    if report["early_stop"]:
        for case in report["cases"]:
            planned = case["num_samples"] + case["num_left_out_by_early_stop"]
            sentences.append(f"With `--early-stop` {case['num_samples']} of {planned} samples were asked for "
                             f"({percent(case['num_left_out_by_early_stop'] / planned)} saved).")
    for knee in report["knees"]:
        rates = ", ".join(f"{case['max_num_seqs']}: {case['questions_per_s']:.1f}" for case in report["cases"] if case["backend"] == knee["backend"])
        sentences.append(f"Questions/s of {knee['backend']} by `--max-num-seqs`: {rates}; the knee is at {knee['max_num_seqs']}.")
    return [sentence for sentence in sentences if sentence]


def evaluation():
    """Every report of `llmrun eval` under results/eval-*: a row for each case."""
    parts = []
    for folder in sorted((ROOT / "results").glob("eval-*")):
        rows, sentences = [], {}
        device = read_json(f"results/{folder.name}/paged-naive.json")["device"]["description"]
        for path in sorted(folder.glob("*.json")):
            report = read_json(path.relative_to(ROOT))
            sentences |= dict.fromkeys(evaluation_sentences(report))  # equal texts give equal votes
            other_device = report["device"]["description"] if report["device"]["description"] != device else ""
            for case in report["cases"]:
                majority = case.get(f"maj@{report['repetitions']}") if report["repetitions"] > 1 else None
                rows.append(f"| {case['name']}{other_device and f' on {other_device}'} | {case['num_questions']} x {report['repetitions']}, temperature {report['sampling']['temperature']:g}{', early stop' if report['early_stop'] else ''} | "
                            f"{score_text(case['scores'][report['main_rule']])} | {score_text(majority) if majority else ''} | "
                            f"{int(case['elapsed_s'] // 60)}:{case['elapsed_s'] % 60:04.1f} | {bench.significant(case['questions_per_s'])} | {'%.2f x %s' % (case['speed_up'], case['baseline']) if case['speed_up'] else ''} |")
        if (folder / "votes.svg").is_file():
            DRAWN[f"results/{folder.name}/votes.svg"] = folder / "repetitions.json"
            sentences[f"\n\n![pass@k and maj@k over k](results/{folder.name}/votes.svg)"] = None
        if rows:
            parts.append(f"Demo model on {device} (`results/{folder.name}/`, whose note says what else ran on the machine):\n\n"
                         "| backend | questions | accuracy | majority of all | minutes:seconds | questions/s | speed-up |\n|---|---|---|---|---|---|---|\n" + "\n".join(rows)
                         + ("\n\n" + " ".join(sentences).replace(" \n\n", "\n\n") if sentences else ""))
    return "\n\n".join(parts)


def serving():
    """The tables that scripts/bench_serving.py wrote into results/serving-*."""
    parts = []
    for folder in sorted((ROOT / "results").glob("serving-*")):
        card = read_json(f"results/{folder.name}/environment.json")["gpus"][0]["name"]
        tables = (folder / "README.md").read_text(encoding="utf-8").split("\n## ")[1:]
        for table in tables:
            title, rest = table.split("\n", 1)
            rows = [line for line in rest.split("\n") if line.startswith("|")]
            parts.append(f"{title}; {card} (`results/{folder.name}/`):\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def excerpt(path, patterns):
    """The lines of a stored text that the patterns find, one each and in their order, as a block; the first is the command."""
    lines, patterns, is_gap = [], list(patterns), False
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        if patterns and re.match(patterns[0], line):
            patterns.pop(0)
            lines += (["..."] if is_gap and lines else []) + [line.rstrip() if len(line) < 120 or not lines else line[:line.rfind("; ", 0, 116)] + "; ..."]
            is_gap = False
        else:
            is_gap |= bool(line)
    if patterns:
        sys.exit(f"{path} has no line {patterns[0]}")
    command = re.sub(r"^\$ \S*/llmrun| --output-json \S+| --color never", lambda match: "$ llmrun" if match[0][0] == "$" else "", lines[0])
    flags = re.sub(r" (?!-)", "\0", command)  # a flag and its value stay in one line
    lines[0] = " \\\n    ".join(textwrap.wrap(flags, 116, break_long_words=False, break_on_hyphens=False)).replace("\0", " ")
    return f"Abridged, from `{path}`:\n\n```\n" + "\n".join(lines) + "\n...\n```"


def throughput_example():
    return excerpt("results/cuda-h200/qwen2-7b-100x161-338.txt",
                   [r"\$ ", "paged$", "Throughput: ", "Total num prompt tokens", "Total num output tokens", "Throughput$", "  backend", "  paged", "  naive",
                    "Checks: ", "  WARNING: paged: run_length"])


def serving_example():
    return excerpt("results/serving-h200/qwen2-7b-40rps.txt",
                   [r"\$ ", "=+ Serving", "Successful", "Failed", "Request rate", "Benchmark duration", "Mean TTFT", "Median TTFT", "Sent: ", "Client overhead"])


def server():
    """What scripts/check_server.py and scripts/soak_server.py saw, from results/server-*."""
    parts = []
    for folder in sorted((ROOT / "results").glob("server-*")):
        environment = read_json(f"results/{folder.name}/faults.json")["environment"]
        parts.append(f"{environment['cpu'].replace('(R)', '')}, {environment['cpus']} threads, which attackers, server and other work shared; "
                     f"`results/{folder.name}/`:\n\n" + (folder / "faults.md").read_text(encoding="utf-8").strip())
        minutes = read_json(f"results/{folder.name}/soak.json")["minutes"]
        parts.append(f"The demo model under mixed load for {minutes:g} minutes (`scripts/soak_server.py`):\n\n"
                     + (folder / "soak.md").read_text(encoding="utf-8").strip())
    return "\n\n".join(parts)


BLOCKS = {"throughput example": throughput_example, "serving example": serving_example, "serving": serving, "server": server, "eval": evaluation, "architectures": architectures, "tokenizers": tokenizers, "speed": speed, "gpu": gpu, "picture": picture, "demo": demo}


def check_anchors(text):
    """Every link to a heading has one, by GitHub's rule: small letters, hyphens for spaces, a number from the second of a name on."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    counts = collections.Counter()
    anchors = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        anchors.add(f"{name}-{counts[name]}" if counts[name] else name)
        counts[name] += 1
    dead = sorted(set(re.findall(r"\]\(#([^)]+)\)", text)) - anchors)
    if dead:
        sys.exit(f"README.md links to headings that it does not have: {', '.join(dead)}")


def check(after, before):
    if after != before:
        sys.exit("README.md is not what scripts/update_readme.py writes; run it")
    for path, text in PICTURES.items():
        if not (ROOT / path).is_file() or (ROOT / path).read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is not what scripts/update_readme.py writes; run it")


def main():
    arguments = parse_arguments()
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = before
    for name, make in BLOCKS.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.S)
        if not pattern.search(after):
            sys.exit(f"README.md has no block {name}")
        text = make()
        after = pattern.sub(lambda match, text=text + "\n" if text else "": match[1] + text + match[2], after)
    check_anchors(after)
    draw_pictures(arguments.llmrun)
    if arguments.check:
        check(after, before)
        return
    readme.write_text(after, encoding="utf-8")
    for path, text in PICTURES.items():
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
