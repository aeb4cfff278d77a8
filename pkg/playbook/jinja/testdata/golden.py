#!/usr/bin/python3
"""Asks Ansible itself what the templates and conditions of cases.txt give.

Run it as ./golden.py > golden.json where ansible-core is installed. The
committed answers are those of ansible-core 2.14 with Jinja2 3.1.
Lines: "T text" is a template, "C text" a condition; \\n in the text is a newline.
"""
import json
import os

from ansible.parsing.dataloader import DataLoader
from ansible.parsing.yaml.loader import AnsibleLoader
from ansible.playbook.conditional import Conditional
from ansible.template import Templar

here = os.path.dirname(os.path.abspath(__file__))
variables = json.load(open(os.path.join(here, "vars.json")))
variables.update(AnsibleLoader(open(os.path.join(here, "vars.yaml")).read()).get_single_data())
variables["tup"] = ("one is {{ one }}", ("{{ one }}",))  # an inventory in INI may hold it
loader = DataLoader()

class Task(Conditional):
    def __init__(self, when):
        self._loader = loader
        self._when = when

    when = property(lambda self: [self._when])

out = []
for line in open(os.path.join(here, "cases.txt")):
    line = line.rstrip("\n")
    if not line or line.startswith("#"):
        continue
    kind, text = line[0], line[2:].replace("\\N", "\n")
    case = {"kind": kind, "text": text}
    try:
        templar = Templar(loader=loader, variables=variables)
        if kind == "C":
            case["value"] = Task(text).evaluate_conditional(templar, variables)
        else:
            case["value"] = json.loads(json.dumps(templar.template(text)))
    except Exception as e:
        case["error"] = type(e).__name__
        if "undefined" in str(e).lower():
            case["error"] = "undefined"
    out.append(case)
print(json.dumps(out, indent=1, ensure_ascii=False))
