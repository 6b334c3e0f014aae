#!/usr/bin/env python3
"""Renders the templates under tests/data/chat_template with Hugging Face transformers and stores what
they print. Needs: pip install transformers jinja2==3.1.6. The C++ tests compare byte for byte.

  semantics.json      rules of the language: rows of {template, variables}; adds output, or error:
                      "parse" or "render"
  expressions.json    the same for random templates over common variables
  templates/*.jinja   one file a template, written in the style of a published model's template
  python_text.json    what Python's str and float make of texts and numbers
  conversations.json  rows of {name, messages, tools, variables}
  goldens.json        {template file: [output or null for an error, one a conversation]}
  ids.json            {template file: {"tokenizer": folder below tests/data/tokenizer, "ids": [...]}}: of each
                      conversation the number of ids of apply_chat_template(tokenize=True) and the
                      first 16 digits of the SHA-256 of "1,2,3", or null for an error. Templates that
                      ask for the date are left out. Needs transformers 4 and sentencepiece.
"""
import copy
import hashlib
import json
import pathlib
import random
import sys

from transformers.utils import chat_template_utils

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "chat_template"
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


# The tokenizer that a template's models have; the other templates take turns.
TOKENIZERS = {"chatml": "qwen2", "deepseek_coder": "deepseek", "deepseek_llm": "deepseek",
              "deepseek_r1": "deepseek_v3", "deepseek_v2_5": "deepseek", "gemma": "gemma",
              "gemma3": "gemma", "hermes_tool_use": "qwen2", "llama2_chat": "sentencepiece_legacy",
              "llama3": "llama3", "llama3_1": "llama3", "mistral_v01": "llama2",
              "mistral_v03": "mistral", "phi3": "phi3", "qwen2": "qwen2", "qwen2_5": "qwen2",
              "qwen3": "qwen3", "qwen3_coder": "qwen3", "tinyllama": "llama2",
              "vicuna": "sentencepiece_legacy", "yi": "sentencepiece", "zephyr": "mistral"}
OTHER_TOKENIZERS = ["gpt2", "opt", "qwen3", "llama3", "unigram", "phi3", "deepseek_v3", "mistral"]


class FixedDatetime(chat_template_utils.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 12, 34, 56)


def render(source, variables):
    """(output, None), or (None, "parse" or "render")."""
    try:
        template = chat_template_utils._compile_jinja_template(source)
    except Exception:
        return None, "parse"
    try:
        return template.render(**variables), None
    except Exception:
        return None, "render"


def apply(source, conversation):
    """As render, the way of apply_chat_template."""
    arguments = {"add_generation_prompt": True, **SPECIAL_TOKENS,
                 **conversation.get("variables", {})}
    try:
        chat_template_utils._compile_jinja_template(source)
    except Exception:
        return None, "parse"
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            [conversation["messages"]], tools=conversation.get("tools"), chat_template=source,
            **arguments)
        return rendered[0], None
    except Exception:
        return None, "render"


def make_rows(name):
    path = DATA / name
    data = json.loads(path.read_text(encoding="utf-8"))
    for row in data["rows"]:
        row.pop("output", None)
        row.pop("error", None)
        # Copied, since a filter of jinja2 may change a list that it is given.
        variables = copy.deepcopy(row.get("variables", data["variables"]))
        output, error = render(row["template"], variables)
        row.update({"error": error} if error else {"output": output})
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in data["rows"])
    variables = json.dumps(data["variables"], ensure_ascii=False)
    path.write_text(f'{{"variables": {variables},\n"rows": [\n{rows}\n]}}\n', encoding="utf-8")
    return len(data["rows"])


def make_python_text():
    random.seed(1)
    numbers = [0.0, -0.0, 1.0, 0.1, 1e15, 1e16, 123456789012345678.0, 1e22, 1e23, 1e-4, 1e-5, 5e-324,
               2.2250738585072014e-308, 1.7976931348623157e308, 1 / 3, 100.0, 1e100, -2.5e-7]
    for _ in range(120):
        numbers.append(random.uniform(-1, 1) * 10.0 ** random.randint(-25, 25))
        numbers.append(float(random.randint(-10**6, 10**6)) / 10 ** random.randint(0, 6))
    alphabet = list("abcXYZ019 \t\n\r,,..''\"\\-_(") + ["\r\n", "é", "ß", "日本", "🙂", "\u00a0", "\u2028",
                                                      "\u200b", "\x85", "\x1c", "\x7f", "Σ", "ǆ"]
    texts = ["", " ", "a", "they're", "A b", "\r\n", "it's \"x\""]
    texts += ["".join(random.choices(alphabet, k=random.randint(1, 14))) for _ in range(50)]
    rows = []
    for text in texts:
        rows.append({"text": text, "repr": repr(text), "upper": text.upper(), "lower": text.lower(),
                     "title": text.title(), "capitalize": text.capitalize(), "strip": text.strip(),
                     "rstrip_chars": text.rstrip("ab\n é"), "split": text.split(),
                     "rsplit_one": text.rsplit(None, 1), "split_comma": text.split(","),
                     "rsplit_comma": text.rsplit(",", 1), "lines": text.splitlines(),
                     "lines_with_ends": text.splitlines(True), "replaced": text.replace("b", "<>"),
                     "spread": text.replace("", "-", 3), "reversed": text[::-1],
                     "length": len(text)})
    # The C++ side maps case letter by letter; a final sigma needs the word around it.
    rows = [row for row in rows if "ς" not in row["lower"] + row["title"] + row["capitalize"]]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    floats = json.dumps([[float.hex(number), repr(number)] for number in numbers])
    (DATA / "python_text.json").write_text(f'{{"floats": {floats},\n"texts": [\n{lines}\n]}}\n',
                                           encoding="utf-8")
    return len(numbers), len(rows)


def make_goldens():
    conversations = json.loads((DATA / "conversations.json").read_text(encoding="utf-8"))
    goldens = {}
    num_errors = 0
    for path in sorted((DATA / "templates").glob("*.jinja")):
        outputs = []
        for conversation in conversations:
            output, error = apply(path.read_text(encoding="utf-8"), conversation)
            if error == "parse":
                sys.exit(f"{path}: does not parse")
            num_errors += error is not None
            outputs.append(output)
        goldens[path.name] = outputs
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(outputs, ensure_ascii=False)}"
                       for name, outputs in goldens.items())
    (DATA / "goldens.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    return len(goldens), len(conversations), num_errors


def load_tokenizer(name):
    from transformers import GPT2TokenizerFast, LlamaTokenizer, PreTrainedTokenizerFast
    folder = DATA.parent / "tokenizer" / name
    if (folder / "tokenizer.model").exists():
        return LlamaTokenizer.from_pretrained(folder)
    has_json = (folder / "tokenizer.json").exists()
    return (PreTrainedTokenizerFast if has_json else GPT2TokenizerFast).from_pretrained(folder)


def with_reasoning_fields(messages):
    """The names that transformers 5 gives a message's reasoning; 4 leaves messages as they are."""
    renamed = []
    for message in messages:
        names = ("reasoning_content", "thinking", "reasoning")
        reasoning = next((message[name] for name in names if message.get(name) is not None), None)
        if reasoning is not None:
            message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
        renamed.append(message)
    return renamed


def template_ids(tokenizer, source, conversation):
    """null also for a conversation without messages, for which transformers fails by itself."""
    try:
        ids = tokenizer.apply_chat_template(
            with_reasoning_fields(conversation["messages"]), tools=conversation.get("tools"), chat_template=source,
            tokenize=True, **{"add_generation_prompt": True, **conversation.get("variables", {})})
    except Exception:
        return None
    return [len(ids), hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()[:16]]


def make_ids():
    conversations = json.loads((DATA / "conversations.json").read_text(encoding="utf-8"))
    loaded, lines, num_errors = {}, [], 0
    for number, path in enumerate(sorted((DATA / "templates").glob("*.jinja"))):
        source = path.read_text(encoding="utf-8")
        if "strftime_now" in source:
            continue
        name = TOKENIZERS.get(path.stem, OTHER_TOKENIZERS[number % len(OTHER_TOKENIZERS)])
        if name not in loaded:
            loaded[name] = load_tokenizer(name)
        ids = [template_ids(loaded[name], source, conversation) for conversation in conversations]
        num_errors += ids.count(None)
        lines.append(f"{json.dumps(path.name)}: " + json.dumps({"tokenizer": name, "ids": ids}))
    (DATA / "ids.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return len(lines), num_errors


def main():
    chat_template_utils.datetime = FixedDatetime
    for name in ("semantics.json", "expressions.json"):
        print(f"{make_rows(name)} rows of {name}")
    print("{} numbers and {} texts".format(*make_python_text()))
    print("{} templates x {} conversations, {} of them errors".format(*make_goldens()))
    print("ids of {} templates, {} errors".format(*make_ids()))


if __name__ == "__main__":
    main()
