#!/usr/bin/python3
"""Makes random expressions and asks Ansible itself what they give.

Run it as ./expressions.py > expressions.json where ansible-core is installed. The
committed answers are those of ansible-core 2.14 with Jinja2 3.1.
"""
import json
import os
import random
import signal

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

here = os.path.dirname(os.path.abspath(__file__))
variables = json.load(open(os.path.join(here, "vars.json")))
rnd = random.Random(7)
atoms = ["one", "zero", "pi", "t", "f", "text", "empty", "lst", "nums", "nested", "nothing", "missing", "kver", "num_text", "mixed",
         "1", "2", "0", "3.5", "'a'", "'b'", "''", "'10'", "[1, 2]", "['a']", "[]", "true", "false", "none", "nested.a.b", "nested.zz",
         "lst[0]", "nums[-1]", "text[1:3]", "kver.split('.')", "dicts[0].name"]
binary = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "and", "or"]
filters = ["default('d')", "default('d', true)", "int", "float", "bool", "string", "length", "lower", "upper", "first", "last", "list", "join('-')",
           "sort", "unique", "abs", "round", "to_json", "default(missing)", "ternary('y', 'n')", "max", "min", "sum", "reverse", "trim", "replace('a', 'b')"]
tests = ["defined", "undefined", "none", "number", "string", "mapping", "sequence", "boolean", "integer", "even", "odd", "divisibleby 2",
         "match('a')", "in lst", "eq 1", "gt 1", "truthy", "iterable", "lower"]


def expr(depth):
    if depth <= 0:
        return rnd.choice(atoms)
    k = rnd.random()
    if k < 0.45:
        return "%s %s %s" % (expr(depth - 1), rnd.choice(binary), expr(depth - 1))
    if k < 0.6:
        return "%s | %s" % (expr(depth - 1), rnd.choice(filters))
    if k < 0.7:
        return "%s is %s%s" % (expr(depth - 1), rnd.choice(["", "not "]), rnd.choice(tests))
    if k < 0.77:
        return "not %s" % expr(depth - 1)
    if k < 0.81:
        return "-%s" % expr(depth - 1)
    if k < 0.88:
        return "%s if %s else %s" % (expr(depth - 1), expr(depth - 1), expr(depth - 1))
    if k < 0.97:
        return "(%s)" % expr(depth - 1)
    return "[%s, %s]" % (expr(depth - 1), expr(depth - 1))


out = []
for i in range(3000):
    text = "{{ %s }}" % expr(rnd.choice([1, 2, 2, 3, 3]))
    case = {"kind": "T", "text": text}
    try:
        signal.alarm(2)
        case["value"] = json.loads(json.dumps(Templar(loader=DataLoader(), variables=variables).template(text)))
    except BaseException as e:
        case["error"] = type(e).__name__
        if "undefined" in str(e).lower():
            case["error"] = "undefined"
    finally:
        signal.alarm(0)
    out.append(case)
print("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in out) + "\n]")
