#!/usr/bin/env python3
"""The licences of every crate linked into the program for a target, from `cargo metadata` on stdin: one list, each text once."""

import json
import pathlib
import sys

TEXTS = ("licen", "copying", "copyright", "notice", "unlicense")

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
linked, open_ends = set(), [metadata["resolve"]["root"]]
while open_ends:
    identity = open_ends.pop()
    if identity not in linked:
        linked.add(identity)
        open_ends += [d["pkg"] for d in nodes[identity]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
linked.remove(metadata["resolve"]["root"])

texts: dict[str, list[str]] = {}
print("Crates linked into retinad, with their licences; the texts that they bring follow.\n")
for package in sorted((packages[identity] for identity in linked), key=lambda p: (p["name"], p["version"])):
    name = f"{package['name']} {package['version']}"
    licence = package["license"] or f"see {package['license_file']}"
    print(f"{name}: {licence}" + (f", {', '.join(package['authors'])}" if package["authors"] else ""))
    for path in sorted(pathlib.Path(package["manifest_path"]).parent.iterdir()):
        if path.is_file() and path.name.lower().startswith(TEXTS):
            texts.setdefault(path.read_text(errors="replace").strip(), []).append(name)
for text, names in texts.items():
    print(f"\n{'=' * 80}\n{', '.join(sorted(set(names)))}\n\n{text}")
