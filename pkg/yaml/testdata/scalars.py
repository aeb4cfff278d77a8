#!/usr/bin/python3
"""Asks Ansible's own YAML loader what plain scalars are.

Run it as ./scalars.py > scalars.json where ansible-core is installed. The
committed answers are those of ansible-core 2.14.
"""
import json

from ansible.parsing.yaml.loader import AnsibleLoader

texts = """yes Yes YES yEs no on Off OFF y n true TRUE false null Null ~ NULL nil None 0 1 -1 +1 010 0o10 08 0x1F 0b101 1_000 _1 1_
1.0 1. .5 -.5 1e3 1.0e3 1.0e+3 1.0E-3 1:30 1:30:15 1:60 01:30 190:20:30.15 .inf -.inf .Inf +.INF .nan .NaN inf nan 0.1.2 6.1.4 6.10 5.10 10m 10%
a-b 1a 12345678901234567890 - = < 0x -0x1F +0b1 0b2 1.5_5 1__0 0_7 -010 1e+3 99:99 00 -0 0:0""".split()
out = []
for t in texts:
    try:
        v = AnsibleLoader("k: %s\n" % t).get_single_data()["k"]
    except Exception as e:
        continue
    kind = type(v).__name__.replace("AnsibleUnicode", "str")
    out.append({"text": t, "type": kind, "value": repr(v) if kind == "float" else str(v)})
print("[\n" + ",\n".join(json.dumps(o) for o in out) + "\n]")
