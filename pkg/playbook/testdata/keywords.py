#!/usr/bin/python3
"""Lists the keywords that Ansible itself takes, by where they stand.

Run it as ./keywords.py > keywords.json where ansible-core is installed. The
committed answers are those of ansible-core 2.14.
"""
import json

from ansible.playbook.block import Block
from ansible.playbook.handler import Handler
from ansible.playbook.play import Play
from ansible.playbook.playbook_include import PlaybookInclude
from ansible.playbook.task import Task


def names(*classes):
    out = set()
    for c in classes:
        out.update(a.alias or k for k, a in c.fattributes.items() if not a.private)
    return sorted(out)


print(json.dumps({"play": names(Play), "block": names(Block), "task": names(Task, Handler) + ["local_action"],
                  "import_playbook": names(PlaybookInclude)}, indent=1))
