"""Asks the real Ansible, many questions in one process.

Reads a JSON list of questions from standard input:
    {"dir": folder, "argv": arguments of ansible-inventory, "env": {...}}
    {"dir": folder, "match": [patterns], "limit": pattern or null, "sources": [...]}
    {"dir": folder, "extras": [-e argument, ...]}: what each is read as, one JSON
    document per line, or "error"
    {"dir": folder, "sources": [...], "matches": [[pattern, limit], ...]}: one line
    of hosts for each, or "error"
    {"dir": folder, "quick": true, "sources": [...]}: --list without a fork, for
    random inventories by the hundred; "unparsed" if a source was not read
and writes a JSON list of answers: {"rc": exit code, "out": text, "err": text}.

Each question runs in a fork, so that Ansible's caches do not mix and its
imports are paid for once. One with an ansible.cfg or an environment gets a
process of its own, since Ansible reads both while it is imported.
"""
import json
import os
import subprocess
import sys
import tempfile


def answer(q, run):
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    pid = os.fork()
    if pid == 0:
        rc = 1
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.chdir(q["dir"])
            rc = run(q)
        except SystemExit as e:
            rc = e.code if isinstance(e.code, int) else 1
        except BaseException as e:
            os.write(2, repr(e).encode())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(rc)
    _, status = os.waitpid(pid, 0)
    res = {"rc": os.waitstatus_to_exitcode(status)}
    for name, f in (("out", out), ("err", err)):
        f.seek(0)
        res[name] = f.read().decode("utf-8", "replace")
    return res


def main():
    questions = json.load(sys.stdin)
    own = os.environ.get("ORACLE_OWN")
    if own is None:
        os.chdir(tempfile.gettempdir())
    else:
        os.chdir(own)

    shared = None
    answers = []
    for q in questions:
        if own is None and (q.get("env") or os.path.exists(os.path.join(q["dir"], "ansible.cfg"))):
            env = dict(os.environ, ORACLE_OWN=q["dir"], **q.get("env", {}))
            p = subprocess.run([sys.executable, os.path.abspath(__file__)], input=json.dumps([q]).encode(),
                               stdout=subprocess.PIPE, env=env, check=True)
            answers += json.loads(p.stdout)
            continue
        if shared is None:
            shared = load()
        if q.get("quick"):
            answers.append(quick(q))
            continue
        answers.append(answer(q, shared))
    json.dump(answers, sys.stdout)


def quick(q):
    from ansible import context
    from ansible.cli.inventory import InventoryCLI
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.utils.display import Display
    from ansible.utils.context_objects import CLIArgs
    from ansible.vars.manager import VariableManager

    unread = []
    Display.warning = lambda self, msg, formatted=False: unread.append(msg) if "Unable to parse" in msg else None
    os.chdir(q["dir"])
    cli = InventoryCLI(["ansible-inventory"])
    context.CLIARGS = CLIArgs({"export": False, "yaml": False, "toml": False, "basedir": None, "extra_vars": ()})
    try:
        cli.loader = DataLoader()
        cli.inventory = InventoryManager(loader=cli.loader, sources=q["sources"])
        cli.vm = VariableManager(loader=cli.loader, inventory=cli.inventory)
        out = cli.dump(cli.json_inventory(cli._get_group("all"))) + "\n"
    except Exception as e:
        return {"rc": 1, "out": "failed", "err": repr(e)}
    if unread:
        return {"rc": 0, "out": "unparsed", "err": unread[0]}
    return {"rc": 0, "out": out, "err": ""}


def load():
    from ansible import context
    from ansible.cli import inventory as cli
    from ansible.parsing.ajson import AnsibleJSONEncoder
    from ansible.utils.context_objects import CLIArgs
    from ansible.utils.vars import load_extra_vars
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    import ansible.plugins.loader as plugins
    # Warm the plugin caches for all forks.
    list(plugins.vars_loader.all())
    for name in ("host_list", "script", "auto", "yaml", "ini", "toml"):
        plugins.inventory_loader.get(name)

    def run(q):
        if "argv" in q:
            cli.main(["ansible-inventory"] + q["argv"])
            return 0
        for extra in q.get("extras", ()):
            context.CLIARGS = CLIArgs({"extra_vars": (extra,)})
            try:
                print(json.dumps(load_extra_vars(DataLoader()), sort_keys=True, cls=AnsibleJSONEncoder))
            except Exception:
                print("error")
        if "extras" in q:
            return 0
        inv = InventoryManager(loader=DataLoader(), sources=q["sources"])
        try:
            for pattern, limit in q.get("matches", ()):
                try:
                    inv.clear_caches()
                    inv._inventory.localhost = None  # named anew by each pattern
                    inv.subset(limit or None)
                    print(" ".join(h.name for h in inv.get_hosts(pattern)))
                except Exception:
                    print("error")
            if "matches" in q:
                return 0
            if q.get("limit"):
                inv.subset(q["limit"])
            patterns = q["match"]
            for h in inv.get_hosts(patterns if len(patterns) > 1 else patterns[0]):
                print(h.name)
        except AnsibleError as e:
            print("error")
        return 0

    return run


# The folder of this file must not shadow Ansible's modules.
sys.path = [p for p in sys.path if p not in ("", os.path.dirname(os.path.abspath(__file__)))]
main()
