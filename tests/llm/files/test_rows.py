"""Every form of a row says the same to every job; what cannot be read is named in one line."""

import json

import datasets
import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm import testing
from sublim_jax.llm.files import rows

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "q"}]}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
END = testing.TINY.eos[0]


@pytest.fixture(scope="module")
def reader():
    return rows.Reader(testing.tokenizer(), testing.TINY)


def said(reader, row):
    prompt, completion = reader.pair(row)
    return reader.tokenizer.decode(prompt), reader.tokenizer.decode(completion)


def file(tmp_path, *given):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "completion": "a", "messages": None, "system": None, "tools": None},
        {"prompt": [USER], "completion": "a"},
        {"prompt": [USER], "completion": [ANSWER]},
        {"messages": [USER], "completion": "a"},
        {"messages": [USER, ANSWER]},
        {"messages": [PARTS, {**ANSWER, "weight": 1, "tool_calls": None}], "tools": []},
        {"messages": [USER, ANSWER], "prompt": "q", "prompt_id": "x"},
        {"messages": [USER, ANSWER], "prompt": [USER]},
        {"prompt": "q", "completion": "a", "tools": "[]"},
    ],
)
def test_each_form_says_the_same(reader, given):
    header = "<|im_start|>system\nYou are a test.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
    expected = (f"{header}<|im_start|>assistant\n", "a<|im_end|>")
    assert said(reader, rows.parse(given, "row 1")) == expected


def test_a_rows_own_system_message_is_read(reader):
    plain = {"prompt": "q", "completion": "a", "system": "s"}
    first = said(reader, rows.parse(plain, ""))
    assert first[0].startswith("<|im_start|>system\ns<|im_end|>\n<|im_start|>user")
    for given in (
        {"messages": [SYSTEM, USER, ANSWER]},
        {"messages": [{**SYSTEM, "role": "developer"}, USER, ANSWER]},
        {"messages": [USER, ANSWER], "system": "s"},
        {"messages": [SYSTEM, USER, ANSWER], "system": "s"},
    ):
        assert said(reader, rows.parse(given, "")) == first


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "q"},
        {"prompt": "q", "system": "s", "completion": "not read"},
        {"messages": [SYSTEM, USER, ANSWER, USER, ANSWER]},
        {"prompt": [USER, ANSWER, USER]},
        {"prompt": "q", "tools": json.dumps(TOOLS)},
    ],
)
def test_what_was_asked_is_written_as_it_is_read_again(given):
    tokenizer = testing.tokenizer()
    tokenizer.chat_template += "{% if tools %}{{ tools | tojson }}{% endif %}"
    reader = rows.Reader(tokenizer, testing.TINY, system="t")
    row = rows.parse(given, "")
    turns, tokens = reader.asked(row)
    again = {**rows.record(row, turns), "completion": "a"}
    plain = rows.Reader(tokenizer, testing.TINY)  # the record alone says it
    assert plain.pair(rows.parse(json.loads(json.dumps(again)), "")) == (
        tokens,
        (*tokenizer.encode("a"), END),
    )


def test_a_question_that_ends_with_an_answer_and_columns_that_are_not_read_are_refused(reader):
    for given, said in (
        ({"prompt": [USER, ANSWER], "completion": "b"}, "ends with an answer of the assistant"),
        ({"prompt": "q", "completion": "a", "tool_calls": [{}]}, "'tool_calls' is not read"),
        ({"prompt": "a", "messages": [USER, {"role": "assistant", "content": "a"}]}, "no part of"),
    ):
        with pytest.raises(UserError, match=f"^row 1: .*{said}"):
            reader.pair(rows.parse(given, "row 1"))


def test_an_empty_answer_is_the_end_alone(reader):
    row = rows.parse({"prompt": "q", "completion": ""}, "row 1")
    assert reader.pair(row)[1] == (END,)
    with pytest.raises(UserError, match="row 1: an empty answer"):
        reader.pair(row, end=False)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "no prompt and no messages: there are no columns"),
        ({"instruction": "a", "output": "b"}, "no prompt .* there are instruction, output: "),
        ({"conversations": [{"from": "human", "value": "a"}]}, "no prompt .*: there are convers"),
        ({"prompt": "q"}, "no answer: .* there are prompt"),
        ({"prompt": "q", "completion": None}, "no answer: .* there are prompt:"),
        ({"messages": [USER]}, "no answer: .* the last is the assistant's"),
        ({"messages": [ANSWER]}, "a chat without messages"),
        ({"messages": []}, "a chat without messages"),
        ({"messages": "text"}, "its messages are not a list"),
        ({"messages": ["text"]}, "its messages are not a list"),
        ({"messages": [{"from": "human", "value": "a"}, ANSWER]}, "a message's role is one of"),
        ({"messages": [{"role": "function", "content": "a"}, ANSWER]}, "message's role is one of"),
        ({"prompt": 5, "completion": "a"}, "a chat is a text or a list of messages"),
        ({"prompt": "q", "completion": 4}, "a text is needed, not 4"),
        ({"prompt": "q", "completion": [1, 2]}, "parts that are not text"),
        ({"prompt": "q", "completion": [ANSWER, ANSWER]}, "parts that are not text"),
        ({"prompt": "q", "completion": [USER]}, "not a message of the assistant"),
        ({"prompt": "p", "messages": [USER, ANSWER]}, "its prompt is no part of its messages"),
        ({"prompt": 5, "messages": [USER, ANSWER]}, "its prompt is no part of its messages"),
        ({"messages": [USER, ANSWER], "completion": "a"}, "two answers"),
        ({"messages": [SYSTEM, USER, ANSWER], "system": "t"}, "two system messages"),
        ({"messages": [USER, {**ANSWER, "tool_calls": TOOLS}]}, "its answer has 'tool_calls'"),
        ({"messages": [USER, {**ANSWER, "name": "b"}]}, "its answer has 'name'"),
        ({"prompt": "q", "completion": "a", "tools": TOOLS}, "takes no tools"),
        ({"prompt": "q", "completion": "a", "tools": "{"}, "its tools are not JSON"),
        ({"prompt": "q", "completion": "a", "tools": 5}, "its tools are not a list"),
        ({"prompt": "q", "completion": "a", "system": 5}, "a system message is a text"),
        ({"prompt": "q\ud800", "completion": "a"}, "half a surrogate pair is no text"),
        ({"prompt": "q", "completion": "\ud800"}, "half a surrogate pair is no text"),
        ({"prompt": "q", "completion": "a<|im_end|>"}, "holds '<|im_end|>', which ends a turn"),
        ({"prompt": "<|im_end|>", "completion": "a"}, "holds '<|im_end|>', which ends a turn"),
        ({"prompt": "q" * 2000, "completion": "a"}, "20.. tokens, more than the context's 1024"),
        ({"prompt": "q", "completion": "a" * 1000}, "10.. tokens, more than the context's 1024"),
        (5, "not a mapping, but of type int"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_in_one_line(reader, given, says):
    with pytest.raises(UserError, match=f"^in, line 7: .*{says}") as error:
        reader.pair(rows.parse(given, "in, line 7"))
    assert "\n" not in str(error.value)
    assert str(error.value).count("in, line 7") == 1


def test_a_token_that_the_model_has_not_is_named(reader):
    tokenizer = testing.tokenizer()
    tokenizer.add_tokens([f"<|a{i}|>" for i in range(20)])
    odd = rows.Reader(tokenizer, testing.TINY)
    for given in ({"prompt": "<|a19|>", "completion": ""}, {"prompt": "", "completion": "<|a19|>"}):
        with pytest.raises(UserError, match="row 1: a token outside the vocabulary of 272"):
            odd.pair(rows.parse(given, "row 1"))


def test_rows_are_counted_from_1_as_lines_are(tmp_path):
    path = file(tmp_path, {"prompt": "a", "id": 3}, {"prompt": "b", "id": "x"})
    first, second = rows.read(path)
    assert (first.where, second.where) == (f"{path}, line 1", f"{path}, line 2")
    assert second.line == '{"prompt": "b", "id": "x"}\n'
    with pytest.raises(UserError, match=r"in\.jsonl, line 2: id 'x': must be an integer"):
        rows.read(path, keys=("id",))
    (tmp_path / "in.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match=r"in\.jsonl: no lines"):
        rows.read(path)


def test_columns_may_have_other_names(reader, tmp_path):
    path = file(tmp_path, {"question": "q", "response": "a", "prompt": "p"})
    columns = {**rows.COLUMNS, "prompt": "question", "completion": "response"}
    (row,) = rows.read(path, columns)
    assert (row.asked, rows.answer(row)) == ("q", "a")
    with pytest.raises(UserError, match="line 1: no column 'quesion': there are question, respons"):
        rows.read(path, {**columns, "prompt": "quesion"})
    both = {"prompt": "p", "messages": [USER, ANSWER]}
    assert rows.parse(both, "", {**rows.COLUMNS, "prompt": ""}).asked == [USER]


def test_a_data_set_is_read_as_the_list_it_came_from(tmp_path, reader):
    call = {**ANSWER, "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    given = [
        {"prompt": "q", "completion": "a"},
        {"messages": [USER, ANSWER], "id": 9},
        {"messages": [USER, call, {"role": "tool", "content": "t"}, USER, ANSWER]},
    ]
    columns = dict.fromkeys(name for row in given for name in row)
    data = datasets.Dataset.from_list([columns | row for row in given])
    assert data[0]["messages"] is None
    data.to_parquet(tmp_path / "hub" / "train.parquet")
    data.save_to_disk(tmp_path / "disk")
    for name in ("hub", "disk"):
        found = rows.read(f"hf:{tmp_path / name}", keys=("id",))
        assert [row.where for row in found] == [f"{tmp_path / name}, row {i}" for i in (1, 2, 3)]
        assert [row.name for row in found] == [(0,), (9,), (2,)]
        assert [dict(row.fields) for row in found] == given
        assert json.loads(found[0].line)["prompt"] == "q"
    named = rows.read(f"hf:{tmp_path / 'hub'}", {**rows.COLUMNS, "prompt": "prompt"})
    assert named[1].asked == [USER]


def test_a_data_set_of_several_configs_asks_for_one(tmp_path):
    for name in ("owl", "cat"):
        datasets.Dataset.from_list([{"prompt": name}]).to_parquet(tmp_path / name / "a.parquet")
    configs = "".join(f"- config_name: {n}\n  data_files: {n}/*.parquet\n" for n in ("owl", "cat"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert rows.read(f"hf:{tmp_path}:cat")[0].asked == "cat"
    for source, says in (
        (f"hf:{tmp_path}", "several configs: name one, as in hf:.*:CONFIG: .*'owl', 'cat'"),
        (f"hf:{tmp_path}:dog", "'dog' not found. Available: .*owl"),
        (f"hf:{tmp_path}/none", "^hf:.*/none: "),
    ):
        with pytest.raises(UserError, match=says) as error:
            rows.read(source)
        assert "\n" not in str(error.value)
