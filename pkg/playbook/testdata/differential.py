#!/usr/bin/python3
"""Runs the playbooks of differential/*.txtar with Ansible itself and writes what
ran into the archives' file "ansible": one line for each play and batch, and one
for each task, host and arguments.

Run it as ./differential.py where ansible-core is installed. The committed answers
are those of ansible-core 2.14.
"""
import glob
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

RECORD = '''
import json, os
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        with open(os.environ["RECORD"], "a") as f:
            line = {"task": self._task.get_name(), "host": task_vars["inventory_hostname"],
                    "args": self._task.args, "become": bool(self._play_context.become)}
            f.write(json.dumps(line, sort_keys=True) + "\\n")
        return {"changed": False}
'''

CALLBACK = '''
import json, os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "batches"

    def v2_playbook_on_play_start(self, play):
        vm = play.get_variable_manager()
        hosts = [h.name for h in vm._inventory.get_hosts(play.hosts, order=play.order)]
        if hosts:
            with open(os.environ["RECORD"], "a") as f:
                f.write(json.dumps({"play": play.get_name(), "batch": hosts}) + "\\n")
'''


def parse(text):
    comment, files, name = [], {}, None
    for line in text.splitlines(True):
        m = re.match(r"-- (\S+) --\n", line)
        if m:
            name = m.group(1)
            files[name] = ""
        elif name is None:
            comment.append(line)
        else:
            files[name] += line
    return "".join(comment), files


here = os.path.dirname(os.path.abspath(__file__))
for path in sorted(sys.argv[1:] or glob.glob(os.path.join(here, "differential", "*.txtar"))):
    comment, files = parse(open(path).read())
    args = re.search(r"^args: (.*)$", comment, re.M)
    with tempfile.TemporaryDirectory() as d:
        for name, text in files.items():
            os.makedirs(os.path.join(d, os.path.dirname(name)), exist_ok=True)
            open(os.path.join(d, name), "w").write(text)
        plugins = os.path.join(d, "collections/ansible_collections/fleetd/test/plugins/action")
        os.makedirs(plugins)
        open(os.path.join(plugins, "record.py"), "w").write(RECORD)
        os.makedirs(os.path.join(d, "callbacks"))
        open(os.path.join(d, "callbacks", "batches.py"), "w").write(CALLBACK)
        record = os.path.join(d, "record")
        open(record, "w").close()
        env = dict(os.environ, RECORD=record, ANSIBLE_COLLECTIONS_PATH=os.path.join(d, "collections"),
                   ANSIBLE_CALLBACK_PLUGINS=os.path.join(d, "callbacks"), ANSIBLE_CALLBACKS_ENABLED="batches",
                   ANSIBLE_DEPRECATION_WARNINGS="false", ANSIBLE_BECOME_ASK_PASS="false")
        cmd = ["ansible-playbook", "-i", "inventory.yaml", "--forks", "1", "site.yml"] + shlex.split(args.group(1) if args else "")
        done = subprocess.run(cmd, cwd=d, env=env, capture_output=True, text=True)
        lines = open(record).read()
        if done.returncode != 0:
            lines = "failed\n"
            print(path, done.stdout[-1500:], done.stderr[-1500:])
    files["ansible"] = lines
    with open(path, "w") as f:
        f.write(comment)
        for name, text in files.items():
            f.write(f"-- {name} --\n{text}")
