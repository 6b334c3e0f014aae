#!/usr/bin/env python3
"""Writes the data of the demo: test problems, sample prompts, a ShareGPT-format sample.

    scripts/make_demo_corpus.py              # datasets/demo/*.jsonl and sharegpt.json
    scripts/make_demo_corpus.py --corpus /tmp/corpus.jsonl --documents 1000000

Needs only Python's standard library. Same seeds, same bytes. --corpus writes training documents,
the very ones that scripts/train_demo_model.py draws.
"""

import argparse
import json
import sys
from pathlib import Path

from demo_corpus.chat import conversation, problem_turn
from demo_corpus.draw import Draw
from demo_corpus.split import (
    KIND_NAMES,
    as_prompt,
    draw_problem,
    held_out_problems,
    is_held_out,
    key_of,
    training_documents,
    training_problem,
)
from demo_corpus.word_problems import Problem

TEST_SEED = 1
TEST_PROBLEMS = 500


def test_problems() -> list[Problem]:
    per_kind = -(-TEST_PROBLEMS // len(KIND_NAMES))
    return held_out_problems(TEST_SEED, per_kind)[:TEST_PROBLEMS]


def check_no_leakage(test: list[Problem], draws: int) -> None:
    """Draws training problems and looks for the test's keys and texts among them."""
    keys = {key_of(problem.kind, problem.question) for problem in test}
    texts = {problem.question for problem in test}
    if len(texts) != len(test):
        raise SystemExit("error: the test has a question twice")
    if not all(is_held_out(problem.kind, problem.question) for problem in test):
        raise SystemExit("error: a test problem is not held out")
    draw = Draw("leakage check")
    for _ in range(draws):
        problem = training_problem(draw)
        if problem.question in texts or key_of(problem.kind, problem.question) in keys:
            raise SystemExit(f"error: a test problem is in the training data: {problem.question}")


def write_lines(path: Path, records: list[dict]) -> None:
    path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records),
        encoding="utf-8",
    )
    print(f"{path}: {len(records)} lines")


def problem_record(problem: Problem) -> dict:
    return {"question": problem.question, "answer": problem.answer, "kind": problem.kind}


def sharegpt_record(number: int, draw: Draw) -> dict:
    """Every second conversation has a word problem, so that lengths differ as in real chats."""
    if number % 2:
        turns = [problem_turn(draw, training_problem), *conversation(draw, training_problem)]
    else:
        turns = conversation(draw, training_problem)
    said = [
        {"from": speaker, "value": text}
        for turn in turns
        for speaker, text in zip(("human", "gpt"), turn, strict=True)
    ]
    return {"id": f"demo-{number}", "conversations": said}


def chat(*said: str, system: str = "") -> list[dict]:
    """The messages of a chat: user, assistant, user, ..."""
    messages = [{"role": "system", "content": system}] if system else []
    for index, text in enumerate(said):
        messages.append({"role": "assistant" if index % 2 else "user", "content": text})
    return messages


def sample_prompts() -> list[dict]:
    """Two dozen requests that show what an input line may hold."""
    draw = Draw("sample prompts")

    def question(kind: str) -> str:
        return draw_problem(draw, held_out=True, kind=kind).question

    def prompt(kind: str) -> str:
        return as_prompt(question(kind))

    greedy = {"temperature": 0, "max_tokens": 256}
    solved = training_problem(draw)
    example = f"{as_prompt(solved.question)} {solved.answer}\n\n"
    return [
        {"id": "change", "prompt": prompt("purchase_change"), **greedy},
        {"id": "orchard", "prompt": prompt("orchard"), **greedy},
        {"id": "speed", "prompt": prompt("speed_distance"), **greedy},
        {"id": "ages", "prompt": prompt("ages"), **greedy},
        {"id": "ledger", "prompt": prompt("long_ledger"), "temperature": 0, "max_tokens": 512},
        {
            "id": "big-product",
            "prompt": prompt("bulk_order"),
            "n": 4,
            "temperature": 0.8,
            "seed": 7,
            "max_tokens": 128,
        },
        {"id": "few-shot", "prompt": example + prompt("reading"), "stop": ["\n\n"], **greedy},
        {"id": "first-step", "prompt": prompt("weekly_pay"), "stop": "\n", **greedy},
        {"id": "log-probabilities", "prompt": prompt("egg_farm"), "logprobs": 3, **greedy},
        {
            "id": "story",
            "prompt": "Once upon a time, there was a little",
            "temperature": 0.7,
            "seed": 11,
            "max_tokens": 200,
        },
        {
            "id": "two-stories",
            "prompt": "There once was a fox called",
            "n": 2,
            "temperature": 0.9,
            "top_p": 0.95,
            "seed": 5,
            "max_tokens": 200,
        },
        {"id": "capital-plain", "prompt": "The capital of France is", "stop": ".", **greedy},
        {
            "id": "introduction",
            "prompt": "Hello, my name is",
            "temperature": 1.0,
            "min_p": 0.05,
            "seed": 1,
            "max_tokens": 80,
        },
        {"id": "hello", "messages": chat("Hello!"), **greedy},
        {"id": "who", "messages": chat("Who are you?"), **greedy},
        {"id": "capital", "messages": chat("What is the capital of Japan?"), **greedy},
        {
            "id": "river",
            "messages": chat("What is a river?", system="You are a helpful assistant."),
            **greedy,
        },
        {
            "id": "fruits",
            "messages": chat("Name three fruits."),
            "n": 3,
            "temperature": 1.0,
            "seed": 42,
            "max_tokens": 40,
        },
        {"id": "japanese", "messages": chat("How do you say hello in Japanese?"), **greedy},
        {
            "id": "name",
            "messages": chat(
                "Hello, my name is Nora.",
                "Hello Nora, nice to meet you! How can I help you?",
                "What is my name?",
            ),
            **greedy,
        },
        {"id": "sum", "messages": chat("What is 47 plus 38?"), "temperature": 0, "max_tokens": 20},
        {
            "id": "tutor",
            "messages": chat(
                question("discount"), system="You are a patient math teacher. Show your steps."
            ),
            **greedy,
        },
        {
            "id": "bedtime",
            "messages": chat("Tell me a short story about a penguin."),
            "temperature": 0.8,
            "top_k": 20,
            "seed": 3,
            "max_tokens": 200,
        },
        {"id": "poem", "messages": chat("Write a poem about the sea."), **greedy},
    ]


def write_corpus(path: Path, seed: int, documents: int) -> None:
    with path.open("w", encoding="utf-8") as out:
        for document in training_documents(seed, documents):
            out.write(json.dumps(document._asdict(), ensure_ascii=False) + "\n")
    print(f"{path}: {documents} documents")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parent.parent / "datasets" / "demo"
    )
    parser.add_argument(
        "--check-draws",
        type=int,
        default=300_000,
        help="training problems drawn to look for leakage",
    )
    parser.add_argument(
        "--corpus", type=Path, help="write training documents to this file, and nothing else"
    )
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="of the training documents")
    options = parser.parse_args()
    if options.corpus:
        write_corpus(options.corpus, options.seed, options.documents)
        return 0
    test = test_problems()
    check_no_leakage(test, options.check_draws)
    options.out.mkdir(parents=True, exist_ok=True)
    write_lines(options.out / "test.jsonl", [problem_record(problem) for problem in test])
    draw = Draw("train sample")
    write_lines(
        options.out / "train_sample.jsonl",
        [problem_record(draw_problem(draw, False, kind)) for kind in KIND_NAMES * 2],
    )
    write_lines(options.out / "prompts.jsonl", sample_prompts())
    draw = Draw("sharegpt")
    sample = [sharegpt_record(number, draw) for number in range(60)]
    (options.out / "sharegpt.json").write_text(
        json.dumps(sample, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    print(f"{options.out / 'sharegpt.json'}: {len(sample)} conversations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
