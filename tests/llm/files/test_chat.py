"""Chats become the tokens of the checkpoint's template, and nothing in them is silent."""

import subprocess
import sys

import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm import testing
from sublim_jax.llm.files import chat

TOKENIZER = testing.tokenizer()
# Qwen2.5's template, without what concerns tools.
QWEN = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}"
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
    "assistant.<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or "
    "(message.role == 'assistant' and not message.tool_calls) %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
PLAIN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"


def _with_template(template):
    tokenizer = testing.tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def test_the_system_message_that_the_template_inserts_is_found():
    assert chat.default_system(TOKENIZER) == testing.SYSTEM
    assert chat.default_system(_with_template(PLAIN)) is None
    deaf = "{% for m in messages %}{{ m['content'] if m['role'] != 'system' }}{% endfor %}"
    assert chat.default_system(_with_template(deaf)) is None


def test_qwens_own_template_inserts_what_it_says():
    tokenizer = _with_template(QWEN)
    system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    assert chat.default_system(tokenizer) == system
    (first, user) = chat.messages(tokenizer, "hi")
    assert first == {"role": "system", "content": system}
    rendered = tokenizer.decode(chat.prompt_tokens(tokenizer, [first, user]))
    assert rendered == (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_inserted_system_message_is_spelt_out():
    user = {"role": "user", "content": "hi"}
    found = chat.messages(TOKENIZER, "hi")
    assert found == [{"role": "system", "content": testing.SYSTEM}, user]
    assert chat.prompt_tokens(TOKENIZER, found) == chat.prompt_tokens(TOKENIZER, [user])


def test_an_empty_system_message_is_not_the_default():
    empty = chat.messages(TOKENIZER, "hi", system="")
    assert empty[0] == {"role": "system", "content": ""}
    default = chat.messages(TOKENIZER, "hi")
    assert chat.prompt_tokens(TOKENIZER, empty) != chat.prompt_tokens(TOKENIZER, default)


def test_a_chats_own_system_message_stays():
    own = [{"role": "system", "content": "mine"}, {"role": "user", "content": "hi"}]
    assert chat.messages(TOKENIZER, own, system="other") == own


def test_no_system_message_is_possible_only_where_the_template_allows_it():
    with pytest.raises(UserError, match="then inserts 'You are a test"):
        chat.messages(TOKENIZER, "hi", system=None)
    turns = chat.messages(_with_template(PLAIN), "hi", system=None)
    assert turns == [{"role": "user", "content": "hi"}]
    assert chat.messages(_with_template(PLAIN), "hi") == turns


def test_tokens_are_those_of_the_template():
    turns = chat.messages(TOKENIZER, "hi")
    wanted = TOKENIZER.apply_chat_template(
        turns, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert chat.prompt_tokens(TOKENIZER, turns) == wanted


def test_a_chat_of_several_turns_keeps_them_all():
    turns = [
        {"role": role, "content": text, "weight": 0, "name": None}
        for role, text in (("user", "a"), ("assistant", "b"), ("tool", "c"), ("user", "d"))
    ]
    found = chat.messages(TOKENIZER, turns, system="S")
    assert [m["content"] for m in found] == ["S", "a", "b", "c", "d"]
    assert all(set(m) == {"role", "content"} for m in found)
    assert [m["role"] for m in found] == ["system", "user", "assistant", "tool", "user"]
    text = TOKENIZER.decode(chat.prompt_tokens(TOKENIZER, found))
    assert text.count("<|im_end|>") == 5
    assert text.endswith("d<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("text", ["hello you", "", "\n é  日本 ", "a<|im_end|>b"])
def test_prompt_and_completion_meet_where_the_template_puts_them(text):
    turns = chat.messages(TOKENIZER, "hi")
    answer = {"role": "assistant", "content": text}
    whole = TOKENIZER.apply_chat_template([*turns, answer], tokenize=True, return_dict=False)
    prompt = chat.prompt_tokens(TOKENIZER, turns)
    completion = chat.completion_tokens(TOKENIZER, text)
    assert completion[-1] == TOKENIZER.eos_token_id
    assert [*prompt, *completion, *TOKENIZER.encode("\n")] == whole
    assert chat.completion_tokens(TOKENIZER, text, end=False) == completion[:-1]


def test_text_is_without_special_tokens():
    assert chat.text(TOKENIZER, chat.completion_tokens(TOKENIZER, "a <b>  c")) == "a <b>  c"
    inside = TOKENIZER.encode("x , <|im_start|><|endoftext|>it 's\n")
    assert chat.text(TOKENIZER, inside) == "x , it 's\n"


@pytest.mark.parametrize(
    "bad",
    [
        [],
        ["hi"],
        [{"role": "user"}],
        [{"role": "user", "content": 3}],
        [{"role": "x", "content": "hi"}],
        [{"role": "User", "content": "hi"}],
        [{"role": "assistant", "content": None}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        [{"role": "user", "content": "\ud800"}],
        [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}],
        [{"role": "assistant", "tool_calls": 5}],
        [{"content": "hi"}],
    ],
)
def test_what_is_not_a_chat_is_one_line(bad):
    with pytest.raises(UserError, match=r"message|tool call") as error:
        chat.messages(TOKENIZER, bad)
    assert "\n" not in str(error.value)


def test_a_template_that_refuses_a_chat_is_one_line():
    tokenizer = _with_template("{{ raise_exception('not today') }}")
    with pytest.raises(UserError, match="refuses the chat: not today"):
        chat.prompt_tokens(tokenizer, chat.messages(tokenizer, "hi", system=None))


def test_a_tokenizer_that_is_missing_or_damaged_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.json: missing"):
        chat.load_tokenizer(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    assert chat.load_tokenizer(tmp_path).encode("hi") == TOKENIZER.encode("hi")
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        chat.load_tokenizer(tmp_path)
    for text, says in (
        ("{", "cannot be read"),
        ("version https://git-lfs.github.com/spec/v1\n", "cannot be read: a Git LFS pointer"),
    ):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(UserError, match=says) as error:
            chat.load_tokenizer(tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m['content'] }", "refuses the chat: unexpected '}'"),
        ("{{ messages[0] | nosuch }}", "refuses the chat: No filter named 'nosuch'"),
        ("{{ 1 // 0 }}", "refuses the chat: "),
        ("{{ messages[0]['content'] }}", "leaves out a message of the assistant"),
        ({"chatml": PLAIN, "tool_use": PLAIN}, "its chat templates are chatml, tool_use"),
    ],
)
def test_a_template_that_cannot_write_an_answer_is_found_at_once(template, says):
    with pytest.raises(UserError, match=f"^folder: .*{says}") as error:
        chat.checked(_with_template(template), "folder")
    assert "\n" not in str(error.value)
    assert chat.checked(_with_template({"default": QWEN, "tool_use": QWEN}), "folder")


def _prompt(tokenizer, given, **settings):
    turns = chat.messages(tokenizer, given)
    return tokenizer.decode(chat.prompt_tokens(tokenizer, turns, **settings))


BARE = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
)
HEADER = "<|im_start|>assistant\n"
ASKED = f"<|im_start|>user\nhi<|im_end|>\n{HEADER}"


@pytest.mark.parametrize(
    "template",
    [
        BARE,
        BARE + "{{ '" + HEADER.replace("\n", "\\n") + "' }}",
        BARE + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ],
    ids=["never", "always", "asked"],
)
def test_a_prompt_ends_where_the_template_begins_an_answer(template):
    tokenizer = _with_template(template)
    assert _prompt(tokenizer, "hi") == ASKED
    earlier = [{"role": r, "content": "hi"} for r in ("user", "assistant", "user")]
    assert _prompt(tokenizer, earlier) == ASKED + "hi<|im_end|>\n" + ASKED


@pytest.mark.parametrize("eos", ["<|endoftext|>", None])
def test_the_end_of_a_turn_is_the_templates(eos):
    tokenizer = testing.tokenizer()
    tokenizer.eos_token = eos
    end = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    assert chat.end_of_turn(tokenizer) == end
    assert chat.completion_tokens(tokenizer, "") == [end]


def test_a_turn_without_an_end_of_its_own_ends_with_the_tokenizers():
    assert chat.end_of_turn(_with_template(PLAIN)) == TOKENIZER.eos_token_id
    tokenizer = _with_template(PLAIN)
    tokenizer.eos_token = None
    with pytest.raises(UserError, match=r"^folder: neither .* says what ends a turn"):
        chat.checked(tokenizer, "folder")


@pytest.mark.parametrize("space", ["", "\n", " \n\n  "])
def test_a_template_writes_what_it_writes_in_transformers(space):
    template = space + "{% if true %}a{% endif %}\n" + QWEN
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
    tokenizer = _with_template(template)
    wanted = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert _prompt(tokenizer, turns) == wanted


def test_a_date_is_the_same_every_day():
    template = "{{ strftime_now('%d %b %Y %H:%M') }};" + BARE
    assert _prompt(_with_template(template), "hi") == "26 Jul 2024 00:00;" + ASKED
    inserted = (
        "{% if messages[0].role != 'system' %}"
        "{{ '<|im_start|>system\\nToday is ' + strftime_now('%A') + '<|im_end|>\\n' }}{% endif %}"
    )
    assert chat.default_system(_with_template(inserted + BARE)) == "Today is Friday"


THINKING = (
    BARE + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)


def test_answers_begin_with_a_thought_only_where_asked():
    tokenizer = _with_template(THINKING)
    assert _prompt(tokenizer, "hi") == ASKED + "<think>\n\n</think>\n\n"
    assert _prompt(tokenizer, "hi", thinking=True) == ASKED
    always = _with_template(THINKING.replace("\\n\\n</think>\\n\\n", "\\n"))
    assert _prompt(always, "hi", thinking=True) == ASKED
    with pytest.raises(UserError, match="begins each answer with a thought"):
        _prompt(always, "hi")
    with pytest.raises(UserError, match="knows no thinking"):
        _prompt(TOKENIZER, "hi", thinking=True)


CALL = {"function": {"name": "get", "arguments": '{"city": "X"}'}}
TOOLS = [{"type": "function", "function": {"name": "get"}}]
WITH_TOOLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' }}"
    "{{ m.content | tojson if m.role == 'tool' else m.content }}"
    "{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
)


def test_tools_and_their_calls_are_read_by_a_template_that_takes_them():
    turns = [
        {"role": "developer", "content": [{"type": "text", "text": "s"}]},
        {"role": "user", "content": "hi", "tool_calls": []},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": 'a "b"\n', "tool_call_id": "1"},
    ]
    assert _prompt(_with_template(WITH_TOOLS), turns, tools=TOOLS) == (
        '[{"type": "function", "function": {"name": "get"}}]<|im_start|>system\ns<|im_end|>\n'
        '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n{"city": "X"}<|im_end|>\n'
        '<|im_start|>tool\n"a \\"b\\"\\n"<|im_end|>\n<|im_start|>assistant\n'
    )


SYSTEM = [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}]
DEAF = "{% for m in messages if m.role != 'system' %}{{ m.role + m.content }}{% endfor %}"
FORGETS = "{% for m in messages %}{{ m.role + m.content.split('</think>')[-1] }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "given", "tools", "says"),
    [
        (DEAF, SYSTEM, None, "leaves out a message of the system"),
        (DEAF + "{{ tools }}", SYSTEM, TOOLS, "leaves out a message of the system"),
        (FORGETS, [{"role": "user", "content": "<think>a</think>b"}], None, "or a part of it"),
        (BARE, "hi", TOOLS, "takes no tools"),
        (WITH_TOOLS, "hi", [{"name": "\ud800"}], "half a surrogate pair is no text"),
        (BARE, [{"role": "user", "content": "a", "name": "b"}], None, "does not read 'name'"),
        (BARE, [SYSTEM[1], {"role": "assistant", "tool_calls": [CALL]}], None, "read 'tool_calls'"),
    ],
)
def test_what_the_template_leaves_out_is_refused(template, given, tools, says):
    with pytest.raises(UserError, match=says) as error:
        _prompt(_with_template(template), given, tools=tools)
    assert "\n" not in str(error.value)


def test_pytorch_is_not_needed(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from sublim_jax.llm import chat\n"
        f"t = chat.load_tokenizer({str(tmp_path)!r})\n"
        "print(chat.prompt_tokens(t, chat.messages(t, 'hi')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = chat.prompt_tokens(TOKENIZER, chat.messages(TOKENIZER, "hi"))
    assert done.stdout.strip() == str(wanted)


def test_templates_that_trim_or_refuse_a_system_message_are_understood():
    trims = testing._TEMPLATE.replace("message['content']", "message['content'] | trim")
    assert chat.default_system(_with_template(trims)) == testing.SYSTEM
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    turns = chat.messages(_with_template(refuses + PLAIN), "hi", system=None)
    assert turns == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(("given", "system"), [(None, "a"), (3, "a"), ("hi", 3)])
def test_what_is_no_text_is_one_line(given, system):
    with pytest.raises(UserError, match="text"):
        chat.messages(TOKENIZER, given, system)
