"""A chat template that offers no tools, made to offer them: in words, without tokens of their own.

Tools are described in the system message, a call is text between tags in the assistant's message, and its result a
message of the user's (Hermes' form, which Qwen's templates write, too). It is Jinja in front of the model's own
template, so it goes wherever that goes. A model has to learn from conversations that hold calls before it makes any.
"""

_IN_WORDS = (
    "{%- set in_words = namespace(messages=[], tools='') -%}"
    "{%- if tools -%}"
    "{%- for tool in tools -%}{%- set in_words.tools = in_words.tools + '\\n' + (tool | tojson) -%}{%- endfor -%}"
    "{%- set in_words.tools = '# Tools\\n\\nYou may call these functions:\\n<tools>' + in_words.tools + "
    "'\\n</tools>\\n\\nTo call one, write its name and its arguments as JSON:\\n"
    '<tool_call>\\n{"name": …, "arguments": {…}}\\n</tool_call>\' -%}'
    "{%- if not messages or messages[0]['role'] != 'system' -%}"
    "{%- set in_words.messages = [{'role': 'system', 'content': in_words.tools}] -%}"
    "{%- endif -%}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'tool' -%}"
    "{%- set result = '<tool_response>\\n' + message['content'] + '\\n</tool_response>' -%}"
    "{%- if loop.previtem is defined and loop.previtem['role'] == 'tool' -%}"  # one turn, as many templates take turns
    "{%- set result = in_words.messages[-1]['content'] + '\\n' + result -%}"
    "{%- set in_words.messages = in_words.messages[:-1] -%}"
    "{%- endif -%}"
    "{%- set in_words.messages = in_words.messages + [{'role': 'user', 'content': result}] -%}"
    "{%- elif message['tool_calls'] -%}"
    "{%- set called = namespace(text=message['content'] or '') -%}"
    "{%- for call in message['tool_calls'] -%}"
    "{%- set called.text = called.text + ('\\n' if called.text else '') + '<tool_call>\\n' + "
    "({'name': call['function']['name'], 'arguments': call['function']['arguments']} | tojson) + '\\n</tool_call>' -%}"
    "{%- endfor -%}"
    "{%- set in_words.messages = in_words.messages + [{'role': 'assistant', 'content': called.text}] -%}"
    "{%- elif loop.first and message['role'] == 'system' and in_words.tools -%}"
    "{%- set said = message['content'] + ('\\n\\n' if message['content'] else '') + in_words.tools -%}"
    "{%- set in_words.messages = [{'role': 'system', 'content': said}] -%}"
    "{%- else -%}"
    "{%- set in_words.messages = in_words.messages + [message] -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- set messages = in_words.messages -%}"
)


def with_tools(template: str) -> str:
    """Return the template with tools, calls and results as messages of the roles that it knows."""
    return _IN_WORDS + template
