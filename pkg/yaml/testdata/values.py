"""Loads many YAML texts with Ansible's own loader.

Reads a JSON list of texts and writes a JSON list of their values in a canonical
form, or "error". With the argument "ini" the texts are values of an INI
inventory.
"""
import datetime
import json
import os
import sys

sys.path = [p for p in sys.path if p not in ("", os.path.dirname(os.path.abspath(__file__)))]

from ansible.parsing.yaml.loader import AnsibleLoader  # noqa: E402
from ansible.parsing.yaml.objects import AnsibleVaultEncryptedUnicode  # noqa: E402
from ansible.utils.display import Display  # noqa: E402
from ansible.utils.unsafe_proxy import AnsibleUnsafe  # noqa: E402

Display.warning = lambda *a, **k: None


def canon(v):
    if v is None:
        return "~"
    if v is True or v is False:
        return str(v)
    if isinstance(v, int):
        return "i%d" % v
    if isinstance(v, float):
        return "f" + repr(v)
    if isinstance(v, AnsibleVaultEncryptedUnicode):
        return "v" + json.dumps(v._ciphertext.decode(), ensure_ascii=False)
    if isinstance(v, str):
        return ("u" if isinstance(v, AnsibleUnsafe) else "s") + json.dumps(str(v), ensure_ascii=False)
    if isinstance(v, bytes):
        return "b" + v.hex()
    if isinstance(v, (datetime.date, datetime.datetime)):
        return "d" + v.isoformat()
    if isinstance(v, (list, tuple)):
        return "[" + ",".join(canon(x) for x in v) + "]"
    if isinstance(v, set):
        return "{" + ",".join(sorted(canon(k) + "=~" for k in v)) + "}"
    if isinstance(v, dict):
        # Keys: that one is marked unsafe makes no difference to anybody.
        return "{" + ",".join(canon(k._strip_unsafe() if isinstance(k, AnsibleUnsafe) else k) + "=" + canon(x) for k, x in v.items()) + "}"
    return "?" + repr(v)


def load(text):
    try:
        loader = AnsibleLoader(text)
        try:
            v = loader.get_single_data()
        finally:
            loader.dispose()
        return canon(v)
    except Exception:
        return "error"


def ini(text):
    from ansible.plugins.inventory.ini import InventoryModule
    try:
        return canon(InventoryModule._parse_value(text))
    except Exception:
        return "error"


if sys.argv[1:] == ["ini"]:
    load = ini
json.dump([load(t) for t in json.load(sys.stdin)], sys.stdout)
