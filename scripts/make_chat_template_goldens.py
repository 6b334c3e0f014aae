#!/usr/bin/env python3
"""Renders the templates under tests/data/chat_template with Hugging Face transformers and stores what
they print. Needs: pip install transformers jinja2==3.1.6. The C++ tests compare byte for byte.

  semantics.json      rows of {template, variables}; adds output, or error: "parse" or "render"
  templates/*.jinja   one file a template, written in the style of a published model's template
  conversations.json  rows of {name, messages, tools, variables}
  goldens.json        {template file: [output or null for an error, one a conversation]}
"""
import json
import pathlib
import sys

from transformers.utils import chat_template_utils

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "chat_template"
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


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


def write_rows(path, rows):
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("[\n" + lines + "\n]\n", encoding="utf-8")


def make_semantics():
    path = DATA / "semantics.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    for row in rows:
        row.pop("output", None)
        row.pop("error", None)
        output, error = render(row["template"], row["variables"])
        row.update({"error": error} if error else {"output": output})
    write_rows(path, rows)
    return len(rows)


def make_goldens():
    conversations = json.loads((DATA / "conversations.json").read_text(encoding="utf-8"))
    goldens = {}
    num_errors = 0
    for path in sorted((DATA / "templates").glob("*.jinja")):
        outputs = []
        for conversation in conversations:
            variables = {"messages": conversation["messages"], "tools": conversation.get("tools"),
                         "documents": None, "add_generation_prompt": True, **SPECIAL_TOKENS,
                         **conversation.get("variables", {})}
            output, error = render(path.read_text(encoding="utf-8"), variables)
            if error == "parse":
                sys.exit(f"{path}: does not parse")
            num_errors += error is not None
            outputs.append(output)
        goldens[path.name] = outputs
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(outputs, ensure_ascii=False)}"
                       for name, outputs in goldens.items())
    (DATA / "goldens.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    return len(goldens), len(conversations), num_errors


def main():
    chat_template_utils.datetime = FixedDatetime
    print(f"{make_semantics()} rows of semantics")
    print("{} templates x {} conversations, {} of them errors".format(*make_goldens()))


if __name__ == "__main__":
    main()
