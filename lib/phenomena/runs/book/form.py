"""The form "Run it with your values": a chapter's declaration as data, which form.js checks and makes commands of."""

import ast
import json
import re
import shlex
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen

from phenomena import own_data
from phenomena.runs import words
from phenomena.runs.book import downloads
from phenomena.runs.book.pages import Page, parameter_table, table
from phenomena.runs.contract.parameters import takes_own_data
from phenomena.runs.store import published

LIMITS = {Ge: ("min", "ge"), Gt: ("above", "gt"), Le: ("max", "le"), Lt: ("below", "lt"),
          MinLen: ("least", "min_length"), MaxLen: ("most", "max_length")}  # fmt: skip

SIGNS: dict[type[ast.AST], str] = {  # of Python in JavaScript
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%", ast.Pow: "**", ast.USub: "-", ast.Not: "!",
    ast.And: "&&", ast.Or: "||", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "===",
    ast.NotEq: "!==",
}  # fmt: skip


def run_form(page: Page, colab: str | None = None) -> str:
    """What tells how to run a page's chapter with other values. colab: where a copy of the page opens in Colab.

    With JavaScript the commands follow a form. Without it there stand the commands of this page, what to change first,
    and the table of all parameters.
    """
    # a less-than sign could end the script, a backtick the block
    data = json.dumps(declared(page), ensure_ascii=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c").replace("`", "\\u0060")
    vary = page.chapter.file.vary
    first = table(("change first", "what one should then see"), [(f"`{name}`", see) for name, see in vary.items()])
    parts = [
        f'```{{raw}} html\n<script type="application/json" class="run-form">{data}</script>\n'
        '<script defer src="../_static/form.js"></script>\n```',
        f"::::{{div}} run-plain\n{first}\n::::" if vary else "",
        ":::{div} run-command\nThe run, in an environment that is set up as below:\n"
        f"```sh\n{page.command}\n```\n{time(page, page.edition)}\n:::",
        f":::{{div}} run-once\nOnce before, with Python 3.11 or later, make and git:\n```sh\n{set_up(page)}\n```\n:::",
        ":::{div} run-papermill\nOr with Papermill alone, in the same environment:\n"
        f"```sh\n{_papermill(page)}\n```\n:::",
        f"```{{button-link}} {colab}\n:color: primary\n:outline:\nOpen in Colab\n```" if colab else "",
        parameter_table(page),
    ]
    return "\n\n".join(filter(None, parts))


def set_up(page: Page) -> str:
    """The commands that lead to an environment in which the chapter runs, from `git clone` on."""
    url = downloads.repository(page.project)
    got = f"git clone {url} phenomena\ncd phenomena" if url else "cd phenomena  # a checkout of this book's repository"
    return f"{got}\nmake setup  # everything from a lock with hashes, into .venv\n. .venv/bin/activate"


def time(page: Page, edition: str) -> str:
    """How long an edition's run takes, measured where there is a record of it."""
    cost = page.chapter.file.editions[edition].cost
    if edition == page.edition:
        record = page.record
    elif published.path(page.project, page.chapter, edition).exists():
        record = published.read(page.project, page.chapter, edition)
    else:
        return f"About {words.duration(cost.seconds)} on {cost.machine}, as the chapter states."
    part = record.counted[0]
    return f"About {words.duration(part.seconds)} for seeds {words.ranges(part.seeds)}, measured on {part.processor}."


def declared(page: Page) -> dict[str, Any]:
    """Parameters, editions and what to see, as form.js takes them."""
    chapter, vary = page.chapter, page.chapter.file.vary
    parameters = chapter.declaration
    editions = {}
    for name, edition in chapter.file.editions.items():
        values = {n: as_text(v) for n, v in chapter.resolve(name).items() if v != parameters[n].default}
        editions[name] = {"summary": edition.summary, "time": time(page, name), "values": values}
    return {
        "chapter": chapter.name,
        "edition": page.edition,
        "editions": editions,
        "first": list(vary),
        "rules": [{"rule": rule, "why": why, **in_script(rule)} for rule, why in chapter.file.rules.items()],
        "parameters": [
            {"name": p.name, "meaning": p.meaning, "accepted": p.accepted, "default": as_text(p.default),
             "type": schema(p.type), **({"see": vary[p.name]} if p.name in vary else {})}
            for p in parameters.values()
        ],
    }  # fmt: skip


def in_script(rule: str) -> dict[str, Any]:
    """A rule between parameters in JavaScript: `test` of the values v with the functions f, and the `names` in v."""
    names: list[str] = []

    def translated(node: ast.AST) -> str:
        match node:
            case ast.Name():
                names.append(node.id)
                return f"v.{node.id}"
            case ast.Constant():
                return json.dumps(node.value)
            case ast.Call(func=ast.Name(id=name)):
                return f"f.{name}({','.join(map(translated, node.args))})"
            case ast.UnaryOp():
                return f"({sign(node.op)}{translated(node.operand)})"
            case ast.BinOp():
                return f"({translated(node.left)}{sign(node.op)}{translated(node.right)})"
            case ast.BoolOp():
                return f"({sign(node.op).join(map(translated, node.values))})"
            case ast.Compare(left=left):
                sides = list(map(translated, (left, *node.comparators)))
                pairs = zip(sides, node.ops, sides[1:], strict=False)
                return f"({'&&'.join(compared(a, op, b) for a, op, b in pairs)})"
        raise missing(node)

    def compared(a: str, operator: ast.cmpop, b: str) -> str:
        if isinstance(operator, ast.In | ast.NotIn):
            return f"{'!' * isinstance(operator, ast.NotIn)}{b}.includes({a})"
        return f"{a}{sign(operator)}{b}"

    def sign(operator: ast.AST) -> str:
        if type(operator) not in SIGNS:
            raise missing(operator)
        return SIGNS[type(operator)]

    def missing(node: ast.AST) -> NotImplementedError:
        return NotImplementedError(f"rule {rule!r}: no JavaScript for a {type(node).__name__}")

    test = translated(ast.parse(rule, mode="eval").body)
    return {"test": test, "names": sorted(set(names))}


def as_text(value: Any) -> str:
    """A value as one types it behind `-p NAME=`."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, ensure_ascii=False)


def schema(kind: Any) -> dict[str, Any]:
    """A declared type as data: its kind, limits, choices, what its entries are, whether none or own data go."""
    origin, arguments = get_origin(kind), get_args(kind)
    if takes_own_data(kind):
        known = [choice for a in arguments if get_origin(a) is Literal for choice in get_args(a)]
        return {"kind": "choice", "choices": known, "own": list(own_data.KINDS)}
    if origin is Annotated:
        limits = [(LIMITS[type(limit)], limit) for limit in arguments[1:]]
        return schema(arguments[0]) | {key: getattr(limit, name) for (key, name), limit in limits}
    if isinstance(kind, type) and origin is None:
        return {"kind": kind.__name__}
    if origin is list:
        return {"kind": "list", "of": schema(arguments[0])}
    if type(None) in arguments:
        return schema(next(a for a in arguments if a is not type(None))) | {"none": True}
    return {"kind": "choice", "choices": list(arguments)}


def _papermill(page: Page) -> str:
    """Papermill's line for the values of this page; form.js makes the same for others."""
    line = ["papermill", f"notebooks/{page.chapter.name}.ipynb", "out.ipynb"]
    for p in page.chapter.declaration.values():
        value = page.record.parameters[p.name]
        if value == p.default:
            continue
        if isinstance(value, list):
            line += ["-y", f"{p.name}: [{', '.join(map(_in_yaml, value))}]"]
        else:  # -r keeps a text as it is, where -p would take 007 for 7
            line += ["-r" if isinstance(value, str) else "-p", p.name, str(value)]
    return shlex.join(line)


def _in_yaml(value: Any) -> str:
    """An entry of a list. YAML takes 1e-07 for a text."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text) if isinstance(value, float) else text
