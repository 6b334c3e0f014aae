#!/usr/bin/env python3
"""OpenAI's Python client, and requests as in vLLM's guides, against `llmrun serve` with the demo model.

usage: serve_openai_test.py LLMRUN
"""
import asyncio
import json
import re
import shutil
import subprocess
import sys
import threading
import urllib.request

import openai


def start(program):
    server = subprocess.Popen([program, "serve", "--port", "0", "--model", "datasets/demo/model", "--dtype", "float32",
                               "--served-model-name", "demo", "--api-key", "secret"], stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if match := re.search(r"serving demo on (http://\S+)", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, match[1]
    raise SystemExit(f"the server did not start: exit code {server.wait()}")


def check_models(client):
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"


def check_completions(client):
    answer = client.completions.create(model="demo", prompt=["What is 3 + 4?", "Once"], n=2, temperature=0.8, seed=1,
                                       max_tokens=6, logprobs=2, echo=True)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[1].text.startswith("What is 3 + 4?") and answer.choices[2].text.startswith("Once")
    logprobs = answer.choices[0].logprobs
    assert logprobs.token_logprobs[0] is None and all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert len(logprobs.tokens) == len(logprobs.text_offset) == len(logprobs.top_logprobs)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = client.completions.create(model="demo", prompt="What is 3 + 4?", n=2, temperature=0.8, seed=1, max_tokens=6)
    assert ["What is 3 + 4?" + choice.text for choice in again.choices] == [c.text for c in answer.choices[:2]]


def check_streams(client):
    request = dict(model="demo", prompt="Once there was", max_tokens=20, temperature=0)
    whole = client.completions.create(**request)
    chunks = list(client.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens and chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def check_chat(client):
    request = dict(model="demo", messages=[{"role": "user", "content": "What is the capital of Japan?"}], temperature=0)
    whole = client.chat.completions.create(**request, logprobs=True, top_logprobs=2)
    assert "Tokyo" in whole.choices[0].message.content and whole.choices[0].finish_reason == "stop"
    entry = whole.choices[0].logprobs.content[0]
    assert len(entry.top_logprobs) == 2 and entry.top_logprobs[0].token == entry.token
    chunks = list(client.chat.completions.create(**request, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    stopped = client.chat.completions.create(**request, stop=["Tokyo"], extra_body={"top_k": 5, "min_p": 0.0})
    assert "Tokyo" not in stopped.choices[0].message.content and stopped.choices[0].finish_reason == "stop"


def check_tools(client):
    """What the model writes for them is its own matter; they reach its template, and it answers."""
    tool = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
    answer = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}], tools=[tool],
                                            max_tokens=5, temperature=0)
    assert answer.choices[0].message.role == "assistant" and answer.usage.completion_tokens > 0


def check_async_client(base):
    async def ask_all():
        async with openai.AsyncOpenAI(base_url=base + "/v1", api_key="secret", max_retries=0) as client:
            async def one(number):
                stream = await client.chat.completions.create(
                    model="demo", messages=[{"role": "user", "content": f"What is {number} + 1?"}], temperature=0, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return await asyncio.gather(*map(one, range(8)))
    assert all(str(number + 1) in text for number, text in enumerate(asyncio.run(ask_all())))


def check_errors(client, base):
    def error(kind, **request):
        try:
            client.completions.create(**{"model": "demo", "prompt": "a", **request})
        except kind as problem:
            return problem
        raise AssertionError(f"{request}: no error")
    assert error(openai.BadRequestError, temperature=-1).param == "temperature"
    assert error(openai.BadRequestError, extra_body={"no_such": 1}).param == "no_such"
    assert error(openai.BadRequestError, prompt="a " * 20000).param == "prompt"
    error(openai.NotFoundError, model="other")
    try:
        openai.OpenAI(base_url=base + "/v1", api_key="wrong").models.list()
        raise AssertionError("a wrong key was taken")
    except openai.AuthenticationError:
        pass


def post(base, path, body):
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"Authorization": "Bearer secret"})
    if path != "/generate":
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def check_curl(base):
    """The commands of vLLM's guides, with a key."""
    if shutil.which("curl") is None:
        print("there is no curl here: its commands are not tried")
        return

    def curl(*words):
        return subprocess.run(["curl", "-sS", "--fail-with-body", "-H", "Authorization: Bearer secret", *words],
                              capture_output=True, text=True, check=True, timeout=60).stdout
    json_type = ["-H", "Content-Type: application/json"]
    models = json.loads(curl(f"{base}/v1/models"))
    assert models["object"] == "list" and models["data"][0]["id"] == "demo"
    answer = json.loads(curl(f"{base}/v1/completions", *json_type, "-d", '{"model": "demo", "prompt": "San Francisco is a", '
                             '"max_tokens": 7, "temperature": 0}'))
    assert answer["object"] == "text_completion" and answer["usage"]["completion_tokens"] <= 7
    messages = '"messages": [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Hello!"}]'
    answer = json.loads(curl(f"{base}/v1/chat/completions", *json_type, "-d", '{"model": "demo", %s}' % messages))
    assert answer["object"] == "chat.completion" and answer["choices"][0]["message"]["role"] == "assistant"
    events = curl("-N", f"{base}/v1/chat/completions", *json_type, "-d", '{"model": "demo", "stream": true, %s}' % messages)
    assert events.startswith("data: {") and events.endswith("data: [DONE]\n\n")
    answer = json.loads(curl(f"{base}/generate", "-d", '{"prompt": "San Francisco is a", "use_beam_search": true, "n": 4, '
                             '"temperature": 0}'))
    assert len(answer["text"]) == 4


def check_other_paths(base):
    texts = post(base, "/generate", {"prompt": "San Francisco is a", "use_beam_search": True, "n": 4, "temperature": 0})
    assert len(texts["text"]) == 4 and all(text.startswith("San Francisco is a") for text in texts["text"])
    tokens = post(base, "/tokenize", {"prompt": "Hello world", "add_special_tokens": False})
    assert tokens["count"] == len(tokens["tokens"]) > 0
    assert post(base, "/detokenize", {"tokens": tokens["tokens"]})["prompt"].strip() == "Hello world"
    with urllib.request.urlopen(base + "/health") as answer:
        assert json.load(answer)["status"] == "ok"
    request = urllib.request.Request(base + "/metrics", headers={"Authorization": "Bearer secret"})
    with urllib.request.urlopen(request) as answer:
        text = answer.read().decode()
    assert 'llmrun_request_success_total{model_name="demo",finished_reason="stop"}' in text
    assert re.search(r'llmrun_time_to_first_token_seconds_count\{model_name="demo"\} [1-9]', text)


def main():
    server, base = start(sys.argv[1])
    try:
        client = openai.OpenAI(base_url=base + "/v1", api_key="secret", max_retries=0)
        check_models(client)
        check_completions(client)
        check_streams(client)
        check_chat(client)
        check_tools(client)
        check_async_client(base)
        check_curl(base)
        check_errors(client, base)
        check_other_paths(base)
    finally:
        server.terminate()
    assert server.wait(30) == 143
    print("ok")


if __name__ == "__main__":
    main()
