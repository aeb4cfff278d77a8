#!/usr/bin/python3
"""Asks Ansible itself how it divides hosts into batches.

Run it as ./serial.py > serial.json where ansible-core is installed. The
committed answers are those of ansible-core 2.14.
"""
import json
import random

from ansible.executor.playbook_executor import PlaybookExecutor


class Inventory:
    def __init__(self, n):
        self.n = n

    def get_hosts(self, pattern, order=None):
        return list(range(self.n))


class Play:
    hosts, order = "all", None


def sizes(n, serial):
    play = Play()
    play.serial = serial
    executor = PlaybookExecutor.__new__(PlaybookExecutor)
    executor._inventory = Inventory(n)
    return [len(b) for b in executor._get_serialized_batches(play)]


rnd = random.Random(20)
cases = []
fixed = [[], [1], [3], ["10%"], ["100%"], ["29%"], ["57%"], ["0%"], [0], [-1], ["-10%"], ["1%"], [1, 5, "20%"],
         [1, "10%", "25%"], ["3"], [2, 0], ["30%", "30%", "30%"], ["200%"], [1000], ["33%", 1], ["50%", "100%"]]
for n in (0, 1, 2, 3, 7, 10, 99, 100, 101, 1000):
    for s in fixed:
        cases.append((n, s))
for _ in range(600):
    n = rnd.randrange(0, 400)
    s = [rnd.choice([rnd.randrange(-1, 40), "%d%%" % rnd.randrange(-3, 130), str(rnd.randrange(1, 20))]) for _ in range(rnd.randrange(1, 5))]
    cases.append((n, s))
print("[")
print(",\n".join(json.dumps({"hosts": n, "serial": s, "sizes": sizes(n, s)}) for n, s in cases))
print("]")
