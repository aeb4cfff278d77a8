#!/usr/bin/python3
"""Runs the playbooks of ansible/*.txtar with Ansible itself and writes what came
of them into the archives' file "ansible": by host, the counts of the recap and
the variables that were registered or set, and then what is in the folder that they
work in.

Run it as ./answers.py where ansible-core is installed, with /bin/sh a dash. The
committed answers are those of ansible-core 2.14.
"""
import glob
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile

CALLBACK = '''
import json, os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "answers"
    manager = None

    def v2_playbook_on_play_start(self, play):
        self.manager = play.get_variable_manager()

    def v2_playbook_on_stats(self, stats):
        out = {}
        for h in sorted(stats.processed):
            vars = self.manager._nonpersistent_fact_cache.get(h, {})
            out[h] = {"recap": stats.summarize(h), "vars": dict(vars)}
        with open(os.environ["ANSWERS"], "w") as f:
            json.dump(out, f, sort_keys=True, default=str)
'''

# Of a result, what no two runs have in common, and what is Ansible's own.
DROPPED = {"start", "end", "delta", "exception", "warnings", "discovered_interpreter_python", "invocation",
           "diff", "atime", "mtime", "ctime", "inode", "dev", "version", "block_size", "blocks",
           "attributes", "attr_flags", "elapsed", "delta", "stop"}


def stamped(s):
    """A text without what no two runs have in common: times, and a backup's process."""
    s = re.sub(r"^Paused for [0-9.]+", "Paused for N", s)
    return re.sub(r"\.[0-9]+\.[0-9]{4}-[0-9]{2}-[0-9]{2}@[0-9:]{8}~", ".STAMP", s)


def kept(v):
    if isinstance(v, dict) and "action" in v and "any_errors_fatal" in v:
        return {"name": v["name"], "action": v["action"]}  # a task: all that fleetd tells of it
    if isinstance(v, dict):
        return {k: kept(x) for k, x in v.items() if k not in DROPPED and not k.startswith("_ansible")
                and not (k == "size" and v.get("state") == "link")  # as long as the name of the folder
                and not (k == "src" and isinstance(x, str) and "/ansible-" in x)}  # a temporary file
    if isinstance(v, str):
        return stamped(v)
    return [kept(x) for x in v] if isinstance(v, list) else v


def tree(work):
    """What is in the folder, but for what Ansible itself left there."""
    out = []
    for base, dirs, names in os.walk(work):
        dirs[:] = [d for d in dirs if d != ".ansible"]
        for n in dirs + names:
            p = os.path.join(base, n)
            st = os.lstat(p)
            one = {"tree": stamped(os.path.relpath(p, work)), "mode": "%04o" % stat.S_IMODE(st.st_mode), "owner": "%d:%d" % (st.st_uid, st.st_gid)}
            if stat.S_ISLNK(st.st_mode):
                one["link"] = os.readlink(p).replace(work, "WORK")
                del one["mode"]
            elif stat.S_ISDIR(st.st_mode):
                one["dir"] = True
            else:
                one["names"] = st.st_nlink
                with open(p, "rb") as f:
                    one["content"] = hashlib.sha256(f.read().replace(work.encode(), b"WORK")).hexdigest()[:16]
            out.append(one)
    return sorted(out, key=lambda o: o["tree"])


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
for path in sorted(sys.argv[1:] or glob.glob(os.path.join(here, "ansible", "*.txtar"))):
    comment, files = parse(open(path).read())
    with tempfile.TemporaryDirectory() as top:
        work, plugins, answers = (os.path.join(top, n) for n in ("work", "callbacks", "answers"))
        os.makedirs(os.path.join(work, "home"))
        os.makedirs(plugins)
        open(os.path.join(plugins, "answers.py"), "w").write(CALLBACK)
        for name, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(work, name)), exist_ok=True)
            open(os.path.join(work, name), "w").write(text)
        env = {"PATH": os.environ["PATH"], "HOME": os.path.join(work, "home"), "LC_ALL": "C.UTF-8",
               "WORDS": "two  words", "EMPTY": "", "STAR": "*", "ANSWERS": answers,
               "ANSIBLE_CALLBACK_PLUGINS": plugins, "ANSIBLE_CALLBACKS_ENABLED": "answers",
               "ANSIBLE_LOCAL_TEMP": os.path.join(top, "local"), "ANSIBLE_REMOTE_TEMP": os.path.join(top, "remote")}
        cmd = ["ansible-playbook", "-c", "local", "-i", "a,b", "-e", "ansible_python_interpreter=" + sys.executable,
               "-e", "work=" + work, "site.yml"]
        done = subprocess.run(cmd, cwd=work, env=env, capture_output=True, text=True)
        if not os.path.exists(answers):
            print(path, done.stdout[-1500:], done.stderr[-1500:])
            continue
        found = json.loads(open(answers).read().replace(work, "WORK"))
        if done.returncode not in (0, 2):
            print(path, done.stdout[-1500:], done.stderr[-1500:])
        left = tree(work)
    lines = ""
    for host, f in found.items():
        lines += json.dumps({"host": host, "recap": f["recap"]}, sort_keys=True) + "\n"
        for name, v in sorted(f["vars"].items()):
            if name not in DROPPED:
                lines += json.dumps({"host": host, "var": name, "value": kept(v)}, sort_keys=True) + "\n"
    for one in left:
        lines += json.dumps(one, sort_keys=True) + "\n"
    files["ansible"] = lines
    with open(path, "w") as f:
        f.write(comment)
        for name, text in files.items():
            f.write(f"-- {name} --\n{text}")
