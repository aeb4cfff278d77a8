#!/usr/bin/python3
"""Runs the shipped playbooks with Ansible itself, on stand-ins for fleetd's
modules that only write down what they are given, and writes the lines to
<case>.ansible.

Run it as ./ansible.py where ansible-core is installed. The committed answers
are those of ansible-core 2.14. The stand-ins show that Ansible takes the
playbooks as they are and means the same by them; of what the modules do they
show nothing.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
script = open(os.path.join(here, "../../pkg/playbook/testdata/differential.py")).read()
RECORD = re.search(r"RECORD = '''(.*?)'''", script, re.S).group(1).replace("\\\\n", "\\n")
CALLBACK = re.search(r"CALLBACK = '''(.*?)'''", script, re.S).group(1).replace("\\\\n", "\\n")

for inventory in sorted(glob.glob(os.path.join(here, "*.inventory.yaml"))):
    case = os.path.basename(inventory)[: -len(".inventory.yaml")]
    playbook = os.path.join(here, "..", "disable_ebpf.yml" if case.startswith("disable") else "site.yml")
    with tempfile.TemporaryDirectory() as d:
        names = set()
        for f in glob.glob(os.path.join(here, "../*.yml")) + glob.glob(os.path.join(here, "../tasks/*.yml")):
            names.update(re.findall(r"\bfleetd\.(\w+)\.(\w+):", open(f).read()))
        for collection, module in names:
            plugins = os.path.join(d, "collections/ansible_collections/fleetd", collection, "plugins/action")
            os.makedirs(plugins, exist_ok=True)
            open(os.path.join(plugins, module + ".py"), "w").write(RECORD)
        os.makedirs(os.path.join(d, "callbacks"))
        open(os.path.join(d, "callbacks", "batches.py"), "w").write(CALLBACK)
        record = os.path.join(d, "record")
        open(record, "w").close()
        env = dict(os.environ, RECORD=record, ANSIBLE_COLLECTIONS_PATH=os.path.join(d, "collections"),
                   ANSIBLE_CALLBACK_PLUGINS=os.path.join(d, "callbacks"), ANSIBLE_CALLBACKS_ENABLED="batches")
        done = subprocess.run(["ansible-playbook", "-i", inventory, "--forks", "1", playbook], env=env, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stdout + done.stderr)
        open(os.path.join(here, case + ".ansible"), "w").write(open(record).read())
