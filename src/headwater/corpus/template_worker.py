"""A process that renders the chat template of a stranger: sandboxed, with little memory and little time.

Run as a script by `chat_template`; it speaks JSON, one line per message. The first line is {"template", "tokens"}, the
answer {"ready": true}; then every {"messages", "open"} is answered with {"text"} or {"error", "kind"}. A template that
loops for ever is ended by the system's limit on processor time, one that fills the memory by the limit on memory.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 1 << 30
"""Bytes of address space."""
SECONDS = 2
"""Processor time of one rendering."""
TODAY = datetime(2024, 7, 26)
"""The day that a template is told, whatever the clock says: a run that goes on tomorrow asks what it asked today, and a model is
served as it was trained. It is the one that the templates of Llama 3 write themselves where nobody tells them any.
"""


class Refused(TemplateError):
    """What `raise_exception` in a template raises: the template does not take this dialogue."""


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}`, which marks the assistant's words for trainers: its content, here."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements between the two tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """What a chat template finds: what `transformers` offers it, and nothing else of Python."""
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    sandbox.globals["raise_exception"] = _refuse
    sandbox.globals["strftime_now"] = _now
    sandbox.filters["tojson"] = _to_json
    return sandbox


def answer(template: Template, tokens: dict[str, str], request: dict[str, Any]) -> dict[str, str]:
    """{"text"} of one dialogue, or {"error", "kind"}."""
    try:
        return {
            "text": template.render(
                messages=request["messages"],
                add_generation_prompt=request["open"],
                tools=None,
                documents=None,
                **tokens,
            )
        }
    except Exception as error:
        return _problem(error)


def main() -> None:
    """Answers until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    first = json.loads(sys.stdin.readline())
    _limit_time()
    try:
        template = environment().from_string(first["template"])
    except Exception as error:
        _say(_problem(error))
        return
    _say({"ready": True})
    for line in sys.stdin:
        _limit_time()
        _say(answer(template, first["tokens"], json.loads(line)))


def _limit_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + SECONDS + 1, hard))


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _problem(error: Exception) -> dict[str, str]:
    if isinstance(error, Refused):
        return {"kind": "refused", "error": str(error)}
    if isinstance(error, SecurityError):
        return {"kind": "unsafe", "error": str(error)}
    if isinstance(error, TemplateSyntaxError):
        return {"kind": "damaged", "error": f"line {error.lineno}: {error.message}"}
    if isinstance(error, MemoryError):
        return {"kind": "unsafe", "error": "it needs too much memory"}
    return {"kind": "failed", "error": f"{type(error).__name__}: {error}"}


def _refuse(message: Any) -> None:
    raise Refused(str(message))


def _now(form: str) -> str:
    return TODAY.strftime(form)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # jinja's own filter escapes signs of HTML, which a template for a model must not.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


if __name__ == "__main__":
    main()
